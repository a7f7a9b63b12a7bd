#ifndef RESHARD_ENGINE_CHECKED_SOURCE_H_
#define RESHARD_ENGINE_CHECKED_SOURCE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "reshard/source.h"

namespace reshard {

/// A checksum that a source's file carries of bytes that are going to be read.
struct ExpectedCrc {
  uint32_t file = 0;     ///< what ReadAt takes
  StoredCrc crc{};
  uint32_t tensor = 0;   ///< one that the bytes are of, and the catalog's number of their file
  uint32_t in_file = 0;
};

/// A source whose bytes are summed as they are read, whoever reads them, and compared with the
/// checksums that its files carry. No byte is read for it. Windows and threads read the parts of a
/// tensor in any order, some of them twice:
///
///   [0, 100) by one thread, then [200, 300) by another, then [90, 200): the sums of [0, 100),
///   [100, 200) and [200, 300), each taken once, make that of the whole
///
/// Bytes that are never read whole (a part of a tensor is wanted, or it is read in very many pieces)
/// are not compared. Safe to use from several threads once Expect has been called.
class CheckedSource final : public Source {
 public:
  /// `of` must outlive it.
  explicit CheckedSource(const Source& of) : of_(of) {}

  /// What to compare with, before the first read.
  void Expect(std::vector<ExpectedCrc> sums);

  /// Whether a checksum has differed.
  bool found_damage() const { return found_damage_; }

  const Catalog& catalog() const override { return of_.catalog(); }
  std::string_view kind() const override { return of_.kind(); }
  std::string_view evidence() const override { return of_.evidence(); }
  const std::string& root() const override { return of_.root(); }
  const std::vector<std::string>& notes() const override { return of_.notes(); }
  Result<ChunkLayout> Locate(const Tensor& tensor, const Chunk& chunk) const override {
    return of_.Locate(tensor, chunk);
  }

  /// As the source's own. An error of kind kSource that names the tensor where the bytes complete
  /// what a checksum is of, and are not those that it was made of.
  Result<> ReadAt(uint32_t file, uint64_t offset, std::span<std::byte> out) const override;

 private:
  // Bytes that have been read, from their place among those of one checksum.
  struct Part {
    uint64_t end = 0;
    uint32_t crc = 0;
    bool summed = false;  // else some thread is at it
  };
  using Parts = std::map<uint64_t, Part>;
  // Those checksums that are in work, by position in sums_.
  struct Shelf {
    std::mutex mutex;
    std::unordered_map<size_t, Parts> open;
  };
  static constexpr size_t kShelves = 64;

  Result<> Add(size_t index, uint64_t begin, std::span<const std::byte> bytes) const;
  std::vector<std::pair<uint64_t, uint64_t>> Reserve(size_t index, uint64_t begin,
                                                     uint64_t end) const;
  void Drop(Shelf* shelf, size_t index) const;
  Result<> Compare(size_t index, uint32_t crc) const;

  const Source& of_;
  std::vector<ExpectedCrc> sums_;  // sorted by file and offset
  mutable std::vector<std::atomic<bool>> settled_;  // compared, or given up
  mutable std::array<Shelf, kShelves> shelves_;
  mutable std::atomic<size_t> parts_ = 0;  // on all shelves
  mutable std::atomic<bool> found_damage_ = false;
};

}  // namespace reshard

#endif  // RESHARD_ENGINE_CHECKED_SOURCE_H_
