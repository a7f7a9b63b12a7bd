// Lists the tensors of a checkpoint, then converts it: quickstart SRC DST
#include <cstdio>
#include <string>

#include "reshard/convert.h"
#include "reshard/text.h"

namespace {

class Console final : public reshard::Reporter {
 public:
  void OnProgress(const reshard::Progress& progress) override {
    std::fprintf(stderr, "%s of %s\n", reshard::FormatByteSize(progress.bytes_done).c_str(),
                 reshard::FormatByteSize(progress.bytes_total).c_str());
  }
  void OnWarning(std::string_view text) override {
    std::fprintf(stderr, "warning: %s\n", reshard::Printable(text).c_str());
  }
};

int Fail(const reshard::Error& error) {
  std::fprintf(stderr, "%s\n", error.ToString().c_str());
  return reshard::ExitCode(error.kind);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: quickstart SRC DST\n");
    return 2;
  }
  auto source = reshard::OpenSource(argv[1]);
  if (!source) return Fail(source.error());
  for (const reshard::Tensor& tensor : (*source)->catalog().tensors()) {
    std::string shape;
    for (int64_t extent : tensor.shape) shape += " " + std::to_string(extent);
    std::printf("%s: %s, shape%s\n", reshard::Printable(tensor.name).c_str(),
                std::string(reshard::DTypeName(tensor.dtype)).c_str(), shape.c_str());
  }

  Console console;
  const reshard::ConvertRequest request{.source = argv[1], .destination = argv[2]};
  auto conversion = reshard::Conversion::Prepare(request, console);  // Writes nothing.
  if (!conversion) return Fail(conversion.error());
  const auto summary = conversion->Run({}, console);
  if (!summary) return Fail(summary.error());
  std::printf("%llu tensors, %s\n", static_cast<unsigned long long>(summary->plan.tensors),
              reshard::FormatByteSize(summary->bytes_written).c_str());
  return 0;
}
