#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja_value.h"

namespace sabrewing::text::jinja {

class Interpreter;

/// A filter or test: the value first, then the arguments.
using Builtin = Value (*)(Interpreter& interpreter, const Value& value, const Arguments& arguments);

/// A variable: a slot of the function `hops` levels outside the one that runs.
struct VariableRef {
  int hops = 0;
  std::size_t slot = 0;
};

enum class NameUse : std::uint8_t { kLoad, kStore, kParameter };

enum class ExprKind : std::uint8_t {
  kConst,
  kName,
  kNamespaceRef,  ///< `name.attribute` as the target of a set
  kTuple,
  kList,
  kDict,         ///< items: key, value, key, value, ...
  kConditional,  ///< items: value, condition, other value or null
  kAnd,
  kOr,
  kNot,
  kNegative,
  kPositive,
  kBinary,   ///< text: the operator
  kConcat,   ///< a ~ b ~ ...
  kCompare,  ///< items: operands; operators: between them
  kGetattr,  ///< items: object; text: the attribute
  kGetitem,  ///< items: object, key
  kSlice,    ///< items: object, start, stop, step; the last three may be null
  kCall,     ///< items: callee
  kFilter,   ///< items: value, null for the body of a block; text: the name
  kTest,
};

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct CallArguments {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr star;         ///< *sequence
  ExprPtr double_star;  ///< **mapping
};

struct Expr {
  ExprKind kind = ExprKind::kConst;
  NameUse use = NameUse::kLoad;
  int line = 0;
  int depth = 1;
  std::string text;
  std::string attribute;  ///< kNamespaceRef
  Value value;            ///< kConst
  std::vector<ExprPtr> items;
  std::vector<std::string> operators;
  std::unique_ptr<CallArguments> arguments;
  VariableRef variable;       ///< kName, kNamespaceRef
  Builtin builtin = nullptr;  ///< kFilter, kTest; null for an unknown name inside a condition
};

enum class LoadAction : std::uint8_t { kParameter, kResolve, kAlias, kUndefined };

/// What a scope does with one of its variables when it is entered.
struct ScopeLoad {
  std::size_t slot = 0;
  LoadAction action = LoadAction::kParameter;
  std::string name;
  VariableRef source;  ///< kAlias
};

struct ScopePlan {
  std::vector<ScopeLoad> loads;
};

/// A body that runs with variables of its own: the template, a macro, a call block, a recursive loop,
/// the condition of a loop.
struct FunctionPlan {
  std::size_t slots = 0;
};

enum class StmtKind : std::uint8_t {
  kData,
  kOutput,
  kFor,
  kIf,
  kMacro,
  kCallBlock,  ///< also the generation block, whose value is null
  kFilterBlock,
  kSet,
  kSetBlock,
  kWith,
  kBreak,
  kContinue,
};

struct Stmt;
using StmtPtr = std::unique_ptr<Stmt>;
using Body = std::vector<StmtPtr>;

struct Stmt {
  StmtKind kind = StmtKind::kData;
  int line = 0;
  std::string text;   ///< data; the macro's name
  ExprPtr target;     ///< kFor, kSet, kSetBlock
  ExprPtr value;      ///< output, iterable, condition, assigned value, called expression, filter
  ExprPtr condition;  ///< kFor: the filter of the loop
  Body body;
  Body otherwise;
  std::vector<StmtPtr> branches;    ///< kIf: the elif parts
  std::vector<ExprPtr> parameters;  ///< kMacro, kCallBlock; the targets of kWith
  std::vector<ExprPtr> defaults;    ///< of the last parameters; the values of kWith
  bool recursive = false;

  // Filled by the scope analysis.
  ScopePlan scope;
  ScopePlan otherwise_scope;
  ScopePlan condition_scope;
  FunctionPlan function;            ///< of a macro, call block or recursive loop
  FunctionPlan condition_function;  ///< kFor with a condition
  ExprPtr condition_target;         ///< the loop target once more, inside condition_function
  std::optional<std::size_t> loop_slot;
  VariableRef name;  ///< kMacro: where the macro goes
  std::optional<std::size_t> caller_slot;
  std::optional<std::size_t> kwargs_slot;
  std::optional<std::size_t> varargs_slot;
  bool explicit_caller = false;
};

struct Template {
  Body body;
  ScopePlan scope;
  FunctionPlan function;
};

}  // namespace sabrewing::text::jinja
