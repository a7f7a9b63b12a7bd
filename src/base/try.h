#ifndef RESHARD_BASE_TRY_H_
#define RESHARD_BASE_TRY_H_

#include <utility>

#include "reshard/error.h"

// Error propagation for functions that return Result<T>.

#define RESHARD_CONCAT_INNER(a, b) a##b
#define RESHARD_CONCAT(a, b) RESHARD_CONCAT_INNER(a, b)

/// Returns the error of `expr`, if it has one, from the enclosing function.
#define RESHARD_TRY(expr)                                                       \
  do {                                                                          \
    if (auto reshard_result = (expr); !reshard_result)                          \
      return std::unexpected(std::move(reshard_result).error());                \
  } while (false)

/// `RESHARD_ASSIGN(auto x, F())`: declares x as F()'s value, or returns its error.
#define RESHARD_ASSIGN(lhs, expr) \
  RESHARD_ASSIGN_INNER(RESHARD_CONCAT(reshard_result_, __LINE__), lhs, expr)
#define RESHARD_ASSIGN_INNER(result, lhs, expr)                        \
  auto result = (expr);                                                \
  if (!result) return std::unexpected(std::move(result).error());      \
  lhs = std::move(*result)

#endif  // RESHARD_BASE_TRY_H_
