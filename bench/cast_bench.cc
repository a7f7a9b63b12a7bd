// cast_bench: how fast each cast goes on data that is in the L2 cache, per input byte.

#include <fmt/format.h>

#include <chrono>
#include <random>
#include <vector>

#include "engine/cast.h"
#include "engine/cast_kernels.h"

namespace reshard {
namespace {

using Clock = std::chrono::steady_clock;

double GigabytesPerSecond(CastFn cast, DType from, DType to) {
  constexpr size_t kElements = 1 << 15;
  const size_t from_bytes = kElements * static_cast<size_t>(ItemSize(from));
  std::vector<float> values(kElements);
  std::mt19937 random(1);
  std::normal_distribution<float> weights(0.0f, 0.02f);
  for (float& value : values) value = weights(random);
  std::vector<std::byte> in(from_bytes);
  std::vector<std::byte> out(kElements * static_cast<size_t>(ItemSize(to)));
  Cast(DType::kFloat32, reinterpret_cast<const std::byte*>(values.data()), from, in.data(),
       kElements);

  size_t rounds = 0;
  const auto start = Clock::now();
  std::chrono::duration<double> passed{};
  do {
    for (int i = 0; i < 100; ++i, ++rounds) cast(in.data(), out.data(), kElements);
    passed = Clock::now() - start;
  } while (passed.count() < 0.1);
  return static_cast<double>(rounds * from_bytes) / passed.count() / 1e9;
}

void Run() {
  constexpr DType kTypes[] = {DType::kFloat16, DType::kBFloat16, DType::kFloat32, DType::kFloat64};
  fmt::print("{:<10}{:<10}{:>14}{:>14}\n", "from", "to", "scalar GB/s", "avx2 GB/s");
  for (DType from : kTypes)
    for (DType to : kTypes) {
      if (from == to) continue;
      fmt::print("{:<10}{:<10}{:>14.1f}", DTypeName(from), DTypeName(to),
                 GigabytesPerSecond(cast_kernels::FindScalar(from, to), from, to));
      if (cast_kernels::HasAvx2())
        fmt::print("{:>14.1f}", GigabytesPerSecond(cast_kernels::FindAvx2(from, to), from, to));
      fmt::print("\n");
    }
}

}  // namespace
}  // namespace reshard

int main() { reshard::Run(); }
