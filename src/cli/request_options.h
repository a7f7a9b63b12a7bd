#ifndef RESHARD_CLI_REQUEST_OPTIONS_H_
#define RESHARD_CLI_REQUEST_OPTIONS_H_

#include <map>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "cli/output.h"
#include "reshard/convert.h"

namespace reshard::cli {

/// The options that say what is to be made of what, as text: shared by `plan` and `convert`.
struct RequestOptions {
  std::string source;
  std::string destination;
  std::string to = "hf";
  std::string from = "auto";
  std::string from_layout;
  std::string recipe = "auto";
  std::string from_recipe = "auto";
  std::string layout_file;
  /// Layout flags by the names of ParseLayoutText: {"tp", "2"}.
  std::map<std::string, std::string> layout;
  std::string iteration = "release";
  std::string pad_vocab_to;
  std::string like;
  std::string hub_form;
  std::string llm_from;
  std::string only;
  std::string packing = "natural";
  std::string dtype = "keep";
  std::vector<std::string> dtype_for;
  bool dequantize = false;
  std::string shard_size = "5GB";
  std::string weights = "safetensors";
  std::string assets_from;
  std::vector<std::string> ignore;

  void Declare(CLI::App& app);
  Result<ConvertRequest> Parse() const;

 private:
  Result<> ParseLayout(ConvertRequest* request) const;
};

/// The options of how to run: shared by all commands that write.
struct RunningOptions {
  unsigned jobs = 0;
  std::string memory;
  bool force = false;
  bool no_resume = false;

  void Declare(CLI::App& app);
  Result<RunOptions> Parse() const;
};

/// The options of what to say.
struct SayingOptions {
  bool json = false;
  bool quiet = false;
  bool verbose = false;
  const char* assets_option = "--assets-from";  ///< what the command calls it

  void Declare(CLI::App& app);
  Verbosity verbosity() const {
    return quiet ? Verbosity::kQuiet : verbose ? Verbosity::kVerbose : Verbosity::kNormal;
  }
};

}  // namespace reshard::cli

#endif  // RESHARD_CLI_REQUEST_OPTIONS_H_
