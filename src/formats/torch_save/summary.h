#ifndef RESHARD_FORMATS_TORCH_SAVE_SUMMARY_H_
#define RESHARD_FORMATS_TORCH_SAVE_SUMMARY_H_

#include <string>

#include "formats/pickle/pickle.h"

namespace reshard::torch_save {

/// A value in a few words, on one line and safe to print, whatever its size: `0.0003`, `"adamw"`,
/// `[1, 2, ... 40 items]`, `argparse.Namespace(112 fields)`, `a quantized tensor`.
std::string Summarize(const pickle::Value& value);

/// What Python's str() gives for a dictionary's key that is text, a number, a truth value or None;
/// for any other its summary.
std::string KeyText(const pickle::Value& key);

}  // namespace reshard::torch_save

#endif  // RESHARD_FORMATS_TORCH_SAVE_SUMMARY_H_
