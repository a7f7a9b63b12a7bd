// cast_tool FROM TO [scalar|avx2]: converts raw elements from stdin to stdout, and prints on stderr
// how many finite values became infinite. For tests/python/test_cast_kernels.py.

#include <fmt/format.h>

#include <cstdio>
#include <cstring>
#include <string_view>
#include <vector>

#include "engine/cast.h"
#include "engine/cast_kernels.h"

namespace reshard {
namespace {

CastFn FindPath(std::string_view path, DType from, DType to) {
  if (path == "scalar") return cast_kernels::FindScalar(from, to);
  if (path == "avx2") return cast_kernels::HasAvx2() ? cast_kernels::FindAvx2(from, to) : nullptr;
  return FindCast(from, to);
}

int Convert(CastFn cast, size_t from_size, size_t to_size) {
  constexpr size_t kElements = 1 << 18;
  std::vector<std::byte> in(kElements * from_size);
  std::vector<std::byte> out(kElements * to_size);
  size_t overflows = 0;
  while (const size_t n = std::fread(in.data(), from_size, kElements, stdin)) {
    overflows += cast(in.data(), out.data(), n);
    if (std::fwrite(out.data(), to_size, n, stdout) != n) return 1;
  }
  fmt::print(stderr, "{}\n", overflows);
  return std::fflush(stdout) == 0 && std::ferror(stdin) == 0 ? 0 : 1;
}

int Main(int argc, char** argv) {
  const auto from = argc > 2 ? ParseDType(argv[1]) : std::nullopt;
  const auto to = argc > 2 ? ParseDType(argv[2]) : std::nullopt;
  const CastFn cast = from && to ? FindPath(argc > 3 ? argv[3] : "", *from, *to) : nullptr;
  if (cast == nullptr) {
    fmt::print(stderr, "usage: cast_tool FROM TO [scalar|avx2]\n");
    return 2;
  }
  return Convert(cast, static_cast<size_t>(ItemSize(*from)), static_cast<size_t>(ItemSize(*to)));
}

}  // namespace
}  // namespace reshard

int main(int argc, char** argv) { return reshard::Main(argc, argv); }
