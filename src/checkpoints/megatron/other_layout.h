#ifndef RESHARD_CHECKPOINTS_MEGATRON_OTHER_LAYOUT_H_
#define RESHARD_CHECKPOINTS_MEGATRON_OTHER_LAYOUT_H_

#include <algorithm>
#include <array>
#include <string_view>

namespace reshard::megatron {

/// Who writes ranks' files of Megatron's models in a layout of their own, which is not read.
struct OtherLayout {
  std::string_view file;  ///< in the directory of each rank
  std::string_view whose;
  std::string_view help;
};

inline constexpr std::string_view kNemoHelp =
    "make a Hugging Face model of it with NeMo's scripts (scripts/checkpoint_converters), or train on "
    "with Megatron-LM and convert what that saves with --ckpt-format torch";

inline constexpr std::array kOtherLayouts = {
    OtherLayout{"model_weights.ckpt", "NeMo 1.0", kNemoHelp},
    OtherLayout{"model.pt", "verl",
                "make a Hugging Face model of it with verl: python scripts/legacy_model_merger.py "
                "merge --backend megatron --local_dir ACTOR_DIRECTORY --target_dir OUT"},
};

/// The layout that has a file of this name; null for any other name.
inline const OtherLayout* FindOtherLayout(std::string_view file) {
  const auto* at = std::ranges::find(kOtherLayouts, file, &OtherLayout::file);
  return at == kOtherLayouts.end() ? nullptr : at;
}

}  // namespace reshard::megatron

#endif  // RESHARD_CHECKPOINTS_MEGATRON_OTHER_LAYOUT_H_
