#include <fmt/format.h>
#include <xxhash.h>

#include "plan/left_out.h"
#include "plan/planner.h"
#include "view/lower.h"

namespace reshard {
namespace {

// Feeds what decides the output's bytes into one hash; every field with its length, so that no two
// plans feed the same.
class PlanHash {
 public:
  PlanHash() { XXH3_128bits_reset(state_.get()); }

  void Add(std::string_view text) {
    Add(text.size());
    XXH3_128bits_update(state_.get(), text.data(), text.size());
  }
  void Add(const View& view, const Catalog& catalog) {
    text_.clear();
    view.AppendTo(&text_, catalog);
    Add(text_);
  }
  void Add(uint64_t value) { XXH3_128bits_update(state_.get(), &value, sizeof value); }

  std::string Hex() const {
    const XXH128_hash_t hash = XXH3_128bits_digest(state_.get());
    return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
  }

 private:
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  std::string text_;  // of the view that is added
  std::unique_ptr<XXH3_state_t, Free> state_{XXH3_createState()};
};

// What a view reads of the source; what is read twice counts twice.
struct Reads {
  uint64_t bytes = 0;
  size_t chunks = 0;
};

Reads ReadsOf(const View& view, const Catalog& catalog) {
  Reads reads;
  (void)LowerWhole(view, [&](const Region& region) -> Result<> {
    if (region.source == Region::kFill) return {};
    reads.bytes += static_cast<uint64_t>(region.numel() * ItemSize(region.source_dtype));
    if (region.dequantize) {
      const Region scales = ScalesOf(region);
      reads.bytes += static_cast<uint64_t>(scales.numel() * ItemSize(scales.source_dtype));
    }
    reads.chunks += catalog.tensors()[region.source].chunk_count;
    return {};
  });
  return reads;
}

bool Casts(const View& view) {
  return Uses(view, View::Op::kCast) || Uses(view, View::Op::kDequantize);
}

void CountLeftOut(const Catalog& catalog, const Plan& plan, PlanSummary* summary) {
  const LeftOut left_out = ListLeftOut(plan.dropped, plan.dropped_parts, catalog);
  summary->dropped_tensors = left_out.tensors.size();
  summary->dropped_parts = left_out.parts.size();
  summary->dropped_objects = catalog.objects().size() - summary->objects;
  for (LeftOutBy by : kAllLeftOutBy) summary->left_out[std::string(LeftOutName(by))] = 0;
  for (const auto* list : {&left_out.tensors, &left_out.parts})
    for (const Dropped& drop : *list) ++summary->left_out[std::string(LeftOutName(drop.by))];
  summary->left_out["objects"] = summary->dropped_objects;
}

}  // namespace

void Summarize(const Catalog& catalog, std::string_view recipe_text, std::string_view request,
               Plan* plan) {
  PlanSummary& summary = plan->summary;
  PlanHash hash;
  hash.Add(recipe_text);
  hash.Add(request);
  for (const FilePlan& file : plan->files) {
    hash.Add(file.path);
    hash.Add(file.size);
    if (!file.copy_of.empty()) summary.bytes_read += file.size;
    for (const Literal& literal : file.literals) {
      hash.Add(literal.offset);
      hash.Add(literal.bytes);
    }
    for (const Slot& slot : file.slots) {
      hash.Add(slot.name);
      hash.Add(slot.offset);
      hash.Add(slot.view, catalog);
      ++summary.tensors;
      summary.casts += Casts(slot.view);
      const Reads reads = ReadsOf(slot.view, catalog);
      summary.assembled += reads.chunks > 1;
      summary.bytes_read += reads.bytes;
    }
  }
  hash.Add(plan->checks.size());
  for (const Check& check : plan->checks) {
    hash.Add(check.name);
    hash.Add(check.view, catalog);
    hash.Add(check.equals, catalog);
    summary.bytes_read +=
        ReadsOf(check.view, catalog).bytes + ReadsOf(check.equals, catalog).bytes;
  }
  for (const Dropped& drop : plan->dropped) hash.Add(drop.name);
  hash.Add(plan->dropped.size());
  for (const DroppedPart& part : plan->dropped_parts) hash.Add(part.view, catalog);
  summary.bytes_written = plan->total_bytes();
  summary.checks = plan->checks.size();
  CountLeftOut(catalog, *plan, &summary);
  summary.plan_id = hash.Hex();
}

PlanDescription Describe(const Plan& plan, const Catalog& catalog, Detail detail) {
  LeftOut left_out = ListLeftOut(plan.dropped, plan.dropped_parts, catalog);
  PlanDescription description{.summary = plan.summary,
                              .dropped = std::move(left_out.tensors),
                              .dropped_parts = std::move(left_out.parts),
                              .warnings = plan.warnings,
                              .left_behind = plan.left_behind,
                              .missing_assets = plan.missing_assets};
  for (const FilePlan& file : plan.files) {
    PlannedFile& planned = description.files.emplace_back();
    planned.path = file.path;
    planned.byte_size = file.size;
    if (detail == Detail::kFiles) continue;
    planned.tensors.reserve(file.slots.size());
    for (const Slot& slot : file.slots)
      planned.tensors.push_back({.name = slot.name,
                                 .dtype = std::string(DTypeName(slot.view.dtype())),
                                 .shape = slot.view.shape(),
                                 .offset = slot.offset,
                                 .byte_size = slot.byte_size(),
                                 .view = slot.view.ToString(catalog)});
  }
  return description;
}

}  // namespace reshard
