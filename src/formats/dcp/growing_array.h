#ifndef RESHARD_FORMATS_DCP_GROWING_ARRAY_H_
#define RESHARD_FORMATS_DCP_GROWING_ARRAY_H_

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <span>
#include <type_traits>

namespace reshard::dcp {

/// A vector of plain values that grows by realloc, which moves the pages of a large array where
/// std::vector copies them: half the peak memory, and half the page faults.
template <typename T>
class GrowingArray {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  size_t size() const { return size_; }
  const T* data() const { return data_.get(); }
  const T& operator[](size_t i) const { return data_.get()[i]; }
  T& operator[](size_t i) { return data_.get()[i]; }
  std::span<const T> span() const { return {data_.get(), size_}; }
  std::span<const T> span(size_t offset, size_t count) const {
    return span().subspan(offset, count);
  }

  void push_back(const T& value) {
    if (size_ == capacity_) Grow(size_ + 1);
    data_.get()[size_++] = value;
  }

  /// Appends `count` values that the caller is to set, and returns them.
  T* Append(size_t count) {
    if (count > capacity_ - size_) Grow(size_ + count);
    T* out = data_.get() + size_;
    size_ += count;
    return out;
  }

 private:
  struct Free {
    void operator()(T* data) const { std::free(data); }
  };

  void Grow(size_t needed) {
    const size_t capacity = std::max({needed, 2 * capacity_, size_t{16}});
    void* moved = std::realloc(data_.get(), capacity * sizeof(T));
    if (moved == nullptr) throw std::bad_alloc();
    (void)data_.release();
    data_.reset(static_cast<T*>(moved));
    capacity_ = capacity;
  }

  std::unique_ptr<T, Free> data_;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

}  // namespace reshard::dcp

#endif  // RESHARD_FORMATS_DCP_GROWING_ARRAY_H_
