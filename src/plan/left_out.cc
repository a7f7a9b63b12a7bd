#include "plan/left_out.h"

namespace reshard {

std::string_view LeftOutName(LeftOutBy by) {
  switch (by) {
    case LeftOutBy::kRecipe: return "recipe";
    case LeftOutBy::kIgnore: return "ignore";
    case LeftOutBy::kOnly: return "only";
    case LeftOutBy::kLlmFrom: return "llm-from";
    case LeftOutBy::kPadding: return "padding";
  }
  return "";
}

LeftOut ListLeftOut(std::span<const Dropped> dropped, std::span<const DroppedPart> parts,
                    const Catalog& catalog) {
  LeftOut left_out{.tensors = {dropped.begin(), dropped.end()}, .parts = {}};
  for (const DroppedPart& part : parts) {
    const bool rows = part.by == LeftOutBy::kPadding;
    const bool stored = !rows && part.view.op() == View::Op::kSource;
    (rows ? left_out.parts : left_out.tensors)
        .push_back({stored ? catalog.tensors()[part.view.source()].name : part.name,
                    part.view.byte_size(), part.why, part.by});
  }
  return left_out;
}

}  // namespace reshard
