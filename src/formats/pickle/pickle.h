#ifndef RESHARD_FORMATS_PICKLE_PICKLE_H_
#define RESHARD_FORMATS_PICKLE_PICKLE_H_

#include <bit>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/byte_source.h"
#include "reshard/error.h"

/// A restricted pickle machine: it builds inert values and never imports, calls or constructs
/// anything. A global is a pair of names; a call is a record of what would have been called.
namespace reshard::pickle {

enum class Kind : uint8_t {
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,  ///< text, UTF-8
  kBytes,   ///< bytes or bytearray; also text that is not well-formed UTF-8
  kTuple,
  kList,
  kSet,
  kDict,
  kGlobal,        ///< a name in a module: "torch" "float32"
  kObject,        ///< a call or construction that was not made (REDUCE, NEWOBJ, BUILD)
  kPersistentId,  ///< BINPERSID: the value that stands for something outside
  kFolded,        ///< an object that a Folder took over; holds the Folder's handle
};

class Value;
struct DictEntry;

/// What a REDUCE or NEWOBJ would have made.
struct ObjectParts;

/// One decoded value: 16 bytes, copied freely, valid as long as its Document (or, inside a
/// Folder's call, for that call). An accessor must match kind(); that is the caller's check.
class Value {
 public:
  Value() = default;
  // Word by word: a copy that follows closely on the two stores that made a value must not read
  // them as one, for which the processor would wait until both have left its store buffer.
  Value(const Value& other) : head_(other.head_), data_(other.data_) {}
  Value& operator=(const Value& other) {
    head_ = other.head_;
    data_ = other.data_;
    return *this;
  }

  Kind kind() const { return static_cast<Kind>(head_ & 0xff); }
  bool is(Kind kind) const { return this->kind() == kind; }
  /// True for the global `module`.`name`.
  bool IsGlobal(std::string_view module, std::string_view name) const;
  /// True for an object whose callable is the global `module`.`name`.
  bool IsObject(std::string_view module, std::string_view name) const;

  bool as_bool() const { return data_ != 0; }
  int64_t as_int() const {
    return static_cast<int64_t>(data_);
  }  ///< integers beyond 64 bits decode as kBytes
  double as_float() const { return std::bit_cast<double>(data_); }
  std::string_view text() const {
    return {static_cast<const char*>(node()), size()};
  }                                            ///< kString, kBytes
  std::span<const Value> items() const;        ///< kTuple, kList, kSet
  std::span<const DictEntry> entries() const;  ///< kDict; in file order, duplicates kept
  std::string_view module() const;             ///< kGlobal
  std::string_view name() const;               ///< kGlobal
  const ObjectParts& object() const;           ///< kObject
  const Value& persistent_id() const;          ///< kPersistentId
  uint64_t handle() const { return data_; }    ///< kFolded

  /// kDict: the value under a string key, or null. The last one where the key stands twice.
  const Value* Find(std::string_view key) const;

 private:
  friend class Machine;
  Value(Kind kind, uint32_t size, uint64_t data)
      : head_(static_cast<uint64_t>(kind) | uint64_t{size} << 32), data_(data) {}

  const void* node() const { return reinterpret_cast<const void*>(data_); }
  uint32_t size() const { return static_cast<uint32_t>(head_ >> 32); }
  // Nesting below this value, as it was when the value was made.
  uint32_t depth() const { return static_cast<uint32_t>(head_ >> 16 & 0xffff); }
  void set_depth(uint32_t depth) { head_ = (head_ & ~uint64_t{0xffff0000}) | depth << 16; }

  uint64_t head_ = 0;  // kind, depth and size
  uint64_t data_ = 0;  // a number, or the address of a node
};
static_assert(sizeof(Value) == 16);

struct DictEntry {
  Value key;
  Value value;
};

struct ObjectParts {
  Value callable;   ///< kGlobal in every honest file
  Value args;       ///< kTuple
  Value kwargs{};   ///< kDict of what NEWOBJ_EX passes by name; kNone without
  Value state{};    ///< what BUILD set; kNone without one
  Value items{};    ///< kList of what APPENDS/ADDITEMS added; kNone without
  Value entries{};  ///< kDict of what SETITEMS added; kNone without
};

/// Bounds on what a pickle may ask for. Exceeding one is an error of kind kSource.
struct Limits {
  /// Nesting of values and of marks. A value that holds itself through the memo (a list appended
  /// to itself) has no depth: who recurses over values counts for himself.
  uint32_t max_depth = 1000;
  uint64_t max_string = uint64_t{1} << 30;  ///< bytes of one string; also <= bytes left
  uint64_t max_memory = uint64_t{4} << 30;  ///< bytes of all values together
};

/// When a Folder is asked about the objects that a global makes.
enum class FoldAt : uint8_t {
  kNever,
  kCall,   ///< as soon as REDUCE has made it: for what has no state
  kState,  ///< when BUILD has set its state
};

struct FoldRule {
  FoldAt when = FoldAt::kNever;
  uint32_t tag = 0;  ///< handed back to Folder::Fold
};

/// Takes over objects as they are completed, so that a large document need never be held as
/// values: the machine then reuses the memory of the object and its parts.
class Folder {
 public:
  virtual ~Folder() = default;

  /// Called each time that the pickle names a global: what to do with the objects it makes.
  virtual FoldRule OnGlobal(std::string_view module, std::string_view name) = 0;

  /// Called for each object that its global's rule selects. Returning a handle, which is not 0,
  /// replaces the object by a kFolded value with it; returning 0 keeps the object as it is.
  /// `object` and all it refers to are gone after the call, and so is every address in it: copy
  /// what is needed, and do not compare addresses with those of another call.
  virtual uint64_t Fold(uint32_t tag, const ObjectParts& object) = 0;

  /// Called for each entry that a dict gets whose key and value are both folded. Returning true
  /// leaves the entry out of the dict.
  virtual bool FoldEntry(uint64_t /*key*/, uint64_t /*value*/) { return false; }
};

/// A decoded pickle; owns the memory of its values.
class Document {
 public:
  ~Document();
  Document(Document&&) noexcept;
  Document& operator=(Document&&) noexcept;

  const Value& root() const;
  /// Offset of the first byte after STOP.
  uint64_t end() const;
  /// Bytes held by the values.
  uint64_t memory() const;

 private:
  friend class Machine;
  struct Impl;
  explicit Document(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Decodes the pickle (protocols 0 to 5, the opcodes that a C pickler writes for protocol 2 and
/// up) that starts at `offset`. The source is read in windows, twice: the first pass finds which
/// memo slots are ever read, so that the second keeps only those.
///
/// Errors are of kind kSource with the offset of the opcode. Opcodes that have no place
/// in a checkpoint (INST, OBJ, PERSID, EXT*, text protocol 0) are such errors.
Result<Document> Decode(const ByteSource& source, uint64_t offset = 0, const Limits& limits = {},
                        Folder* folder = nullptr);

}  // namespace reshard::pickle

#endif  // RESHARD_FORMATS_PICKLE_PICKLE_H_
