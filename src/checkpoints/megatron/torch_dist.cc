#include "checkpoints/megatron/torch_dist.h"

#include <fmt/format.h>
#include <simdjson.h>

#include "base/try.h"
#include "io/file.h"

namespace reshard::megatron {
namespace {

constexpr uint64_t kMaxBytes = 64 << 10;

}  // namespace

Result<> CheckIsNoTorchDist(const std::filesystem::path& directory) {
  const std::filesystem::path file = directory / "metadata.json";
  std::error_code code;
  if (directory.empty() || !std::filesystem::is_regular_file(file, code)) return {};
  const auto text = ReadTextFile(file, kMaxBytes);
  simdjson::dom::parser parser;
  simdjson::dom::element document;
  std::string_view backend;
  // Of another program, which may put there what it likes.
  if (!text || parser.parse(*text).get(document) || document["sharded_backend"].get(backend))
    return {};
  return std::unexpected(
      Error{.kind = ErrorKind::kMapping,
            .file = directory.string(),
            .found = fmt::format("this is a distributed checkpoint of Megatron ('{}'), which "
                                 "reshard cannot read as a model yet",
                                 backend),
            .expected = "mp_rank_* directories, Megatron's format 'torch'",
            .help = "let Megatron-LM write it with --ckpt-convert-format torch and "
                    "--ckpt-convert-save DIR, and give that directory"});
}

}  // namespace reshard::megatron
