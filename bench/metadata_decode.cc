// metadata_decode FILE [RUNS]: the time to decode a DCP `.metadata`. Run it under /usr/bin/time -v
// for its memory; make_checkpoints.py makes a large one.

#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "formats/dcp/dcp_metadata.h"
#include "io/file.h"

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const auto file = reshard::InputFile::Open(argv[1]);
  const int runs = argc > 2 ? std::atoi(argv[2]) : 1;
  for (int i = 0; file && i < runs; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const auto metadata = reshard::dcp::DecodeMetadata(**file);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    if (!metadata) {
      std::fprintf(stderr, "%s\n", metadata.error().ToString().c_str());
      return 1;
    }
    std::printf("%zu tensors, %zu chunks: %.3f s\n", metadata->tensors.size(),
                metadata->chunks.size(), seconds.count());
  }
  return file ? 0 : 1;
}
