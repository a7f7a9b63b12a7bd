#include "recipe/optimizer_state.h"

#include <algorithm>
#include <array>

namespace reshard {
namespace {

// A part of a name that says it, alone or somewhere behind another part.
struct Form {
  std::string_view word;
  std::string_view behind;  // empty: alone
};

constexpr std::array<Form, 19> kForms = {{
    {"exp_avg", {}},            // Adam, Lion
    {"exp_avg_sq", {}},         // Adam
    {"max_exp_avg_sq", {}},     // AMSGrad
    {"exp_avg_sq_row", {}},     // Adafactor
    {"exp_avg_sq_col", {}},     // Adafactor
    {"exp_inf", {}},            // Adamax
    {"momentum_buffer", {}},    // SGD, Muon, RMSprop
    {"square_avg", {}},         // RMSprop, Adadelta
    {"grad_avg", {}},           // RMSprop
    {"acc_delta", {}},          // Adadelta
    {"param_groups", {}},
    {"step", "state"},
    {"sum", "state"},           // Adagrad
    {"state1", "state"},        // 8-bit Adam
    {"state2", "state"},
    {"absmax1", "state"},
    {"absmax2", "state"},
    {"qmap1", "state"},
    {"qmap2", "state"},
}};

}  // namespace

bool NamesOptimizerState(std::string_view name) {
  bool state = false;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    if (std::ranges::any_of(kForms, [&](const Form& form) {
          return part == form.word && (form.behind.empty() || state);
        }))
      return true;
    state |= part == "state";
    begin = end + 1;
  }
  return false;
}

}  // namespace reshard
