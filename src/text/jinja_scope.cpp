// Where each name lives is decided before a template runs, by the rules of Jinja's compiler: a name that
// is assigned anywhere in a scope belongs to that scope from its start, with the outer variable's value, the
// context's value or no value at all, depending on what the scope's text mentions first.

#include <map>
#include <set>
#include <string>
#include <unordered_map>

#include "core/error.h"
#include "text/jinja_builtins.h"
#include "text/jinja_lexer.h"
#include "text/jinja_parser.h"

namespace sabrewing::text::jinja {
namespace {

struct FunctionScope {
  FunctionPlan* plan = nullptr;
  int depth = 0;
  std::map<std::pair<int, std::string>, std::size_t> slots;  ///< by scope level and name
};

struct Place {
  const FunctionScope* function = nullptr;
  std::size_t slot = 0;
};

struct Load {
  LoadAction action = LoadAction::kParameter;
  Place source;
};

class Scope {
 public:
  Scope(Scope* parent, FunctionScope& function)
      : parent_(parent), level_(parent == nullptr ? 0 : parent->level_ + 1), function_(function) {}

  FunctionScope& function() { return function_; }

  const Place* find(const std::string& name) const {
    for (const Scope* scope = this; scope != nullptr; scope = scope->parent_) {
      const auto found = scope->places_.find(name);
      if (found != scope->places_.end()) return &found->second;
    }
    return nullptr;
  }

  void load(const std::string& name) {
    if (find(name) == nullptr) define(name, {LoadAction::kResolve, {}});
  }

  void store(const std::string& name) {
    note_store(name);
    if (places_.count(name) != 0) return;
    const Place* outer = parent_ == nullptr ? nullptr : parent_->find(name);
    if (outer != nullptr) {
      define(name, {LoadAction::kAlias, *outer});
    } else {
      define(name, {LoadAction::kUndefined, {}});
    }
  }

  std::size_t parameter(const std::string& name) {
    note_store(name);
    return define(name, {LoadAction::kParameter, {}});
  }

  std::size_t store_count() const { return store_order_.size(); }

  /// Names first stored inside the branches of an if may keep what they had before.
  void soften_stores(std::size_t from) {
    for (std::size_t i = from; i < store_order_.size(); ++i) {
      const std::string& name = store_order_[i];
      const Place* outer = parent_ == nullptr ? nullptr : parent_->find(name);
      loads_[name] = outer != nullptr ? Load{LoadAction::kAlias, *outer} : Load{LoadAction::kResolve, {}};
    }
  }

  ScopePlan plan() const {
    ScopePlan out;
    for (const auto& [name, load] : loads_) {
      out.loads.push_back({places_.at(name).slot, load.action, name, reference(load.source)});
    }
    return out;
  }

  VariableRef reference(const Place& place) const {
    if (place.function == nullptr) return {};
    return {function_.depth - place.function->depth, place.slot};
  }

 private:
  std::size_t define(const std::string& name, Load load) {
    const auto [slot, added] = function_.slots.try_emplace({level_, name}, function_.plan->slots);
    if (added) ++function_.plan->slots;
    places_[name] = {&function_, slot->second};
    loads_[name] = load;
    return slot->second;
  }

  void note_store(const std::string& name) {
    if (stores_.insert(name).second) store_order_.push_back(name);
  }

  Scope* parent_;
  int level_;
  FunctionScope& function_;
  std::unordered_map<std::string, Place> places_;
  std::map<std::string, Load> loads_;
  std::set<std::string> stores_;
  std::vector<std::string> store_order_;
};

template <typename Visit>
void for_each_child(const Expr& expr, Visit&& visit) {
  for (const ExprPtr& item : expr.items) {
    if (item) visit(*item);
  }
  if (!expr.arguments) return;
  for (const ExprPtr& item : expr.arguments->positional) visit(*item);
  for (const auto& item : expr.arguments->named) visit(*item.second);
  if (expr.arguments->star) visit(*expr.arguments->star);
  if (expr.arguments->double_star) visit(*expr.arguments->double_star);
}

/// Which of some names are read in a body before the body itself assigns them, nested scopes included.
class UndeclaredNames {
 public:
  explicit UndeclaredNames(std::set<std::string> names) : names_(std::move(names)) {}

  void body(const Body& statements) {
    for (const StmtPtr& statement : statements) visit(*statement);
  }
  bool has(const std::string& name) const { return found_.count(name) != 0; }

 private:
  void visit(const Stmt& s) {
    // The order of the fields of Jinja's nodes.
    for (const ExprPtr& item : s.kind == StmtKind::kCallBlock ? kNone : s.parameters) visit(*item);
    if (s.kind == StmtKind::kCallBlock) {
      visit_optional(s.value);
      for (const ExprPtr& item : s.parameters) visit(*item);
    }
    for (const ExprPtr& item : s.defaults) visit(*item);
    visit_optional(s.target);
    if (s.kind == StmtKind::kFilterBlock) {
      body(s.body);
      visit_optional(s.value);
      return;
    }
    if (s.kind != StmtKind::kCallBlock) visit_optional(s.value);
    body(s.body);
    for (const StmtPtr& branch : s.branches) visit(*branch);
    body(s.otherwise);
    visit_optional(s.condition);
  }

  void visit_optional(const ExprPtr& expr) {
    if (expr) visit(*expr);
  }

  void visit(const Expr& expr) {
    if (expr.kind == ExprKind::kName) {
      if (expr.use == NameUse::kLoad && names_.count(expr.text) != 0) {
        found_.insert(expr.text);
      } else {
        names_.erase(expr.text);
      }
    }
    for_each_child(expr, [&](const Expr& child) { visit(child); });
  }

  static const std::vector<ExprPtr> kNone;
  std::set<std::string> names_;
  std::set<std::string> found_;
};

const std::vector<ExprPtr> UndeclaredNames::kNone;

/// Fails when a loop, or anything inside it, assigns `loop`.
class LoopAssignments {
 public:
  static void check(const Stmt& s) {
    for (const ExprPtr* expr : {&s.target, &s.value, &s.condition}) {
      if (*expr) check(**expr);
    }
    for (const Body* body : {&s.body, &s.otherwise, &s.branches}) {
      for (const StmtPtr& statement : *body) check(*statement);
    }
  }

 private:
  static void check(const Expr& expr) {
    if (expr.kind == ExprKind::kName && expr.use == NameUse::kStore && expr.text == "loop") {
      fail_syntax(expr.line, "cannot assign to the special loop variable");
    }
    for_each_child(expr, [](const Expr& child) { check(child); });
  }
};

ExprPtr copy_target(const Expr& target) {
  auto out = std::make_unique<Expr>();
  out->kind = target.kind;
  out->use = target.use;
  out->line = target.line;
  out->depth = target.depth;
  out->text = target.text;
  for (const ExprPtr& item : target.items) out->items.push_back(copy_target(*item));
  return out;
}

class Analyzer {
 public:
  void run(Template& root) {
    FunctionScope function;
    function.plan = &root.function;
    Scope scope(nullptr, function);
    collect(root.body, scope);
    resolve(root.body, scope, {});
    root.scope = scope.plan();
  }

 private:
  /// What surrounds a statement.
  struct Where {
    bool soft = false;     ///< directly inside the branches of an if
    bool in_loop = false;  ///< inside a loop of the same function
  };

  // First pass over one scope: which names it reads and assigns. Nested scopes are left out but for what
  // they evaluate outside themselves.
  void collect(const Body& body, Scope& scope) {
    for (const StmtPtr& statement : body) collect(*statement, scope);
  }

  void collect(const Stmt& s, Scope& scope) {
    switch (s.kind) {
      case StmtKind::kOutput:
      case StmtKind::kFor:
      case StmtKind::kFilterBlock:
        collect(*s.value, scope);
        break;
      case StmtKind::kCallBlock:
        if (s.value) collect(*s.value, scope);
        break;
      case StmtKind::kIf: {
        collect(*s.value, scope);
        const std::size_t stores = scope.store_count();
        collect(s.body, scope);
        collect(s.branches, scope);
        collect(s.otherwise, scope);
        scope.soften_stores(stores);
        break;
      }
      case StmtKind::kMacro:
        scope.store(s.text);
        break;
      case StmtKind::kSet:
        collect(*s.value, scope);
        collect(*s.target, scope);
        break;
      case StmtKind::kSetBlock:
        collect(*s.target, scope);
        break;
      case StmtKind::kWith:
        for (const ExprPtr& value : s.defaults) collect(*value, scope);
        break;
      case StmtKind::kData:
      case StmtKind::kBreak:
      case StmtKind::kContinue:
        break;
    }
  }

  void collect(const Expr& expr, Scope& scope) {
    if (expr.kind == ExprKind::kNamespaceRef) {
      scope.load(expr.text);
    } else if (expr.kind == ExprKind::kName) {
      if (expr.use == NameUse::kLoad) {
        scope.load(expr.text);
      } else if (expr.use == NameUse::kStore) {
        scope.store(expr.text);
      } else {
        scope.parameter(expr.text);
      }
    }
    for_each_child(expr, [&](const Expr& child) { collect(child, scope); });
  }

  /// The targets of a loop belong to its scope like parameters.
  void collect_target(const Expr& target, Scope& scope) {
    if (target.kind == ExprKind::kName) scope.parameter(target.text);
    for (const ExprPtr& item : target.items) collect_target(*item, scope);
  }

  // Second pass: places for the names, functions for the filters and tests.
  void resolve(Body& body, Scope& scope, Where where) {
    for (const StmtPtr& statement : body) resolve(*statement, scope, where);
  }

  void resolve(Stmt& s, Scope& scope, Where where) {
    const Where inner{false, where.in_loop};
    switch (s.kind) {
      case StmtKind::kOutput:
        resolve(*s.value, scope, where);
        break;
      case StmtKind::kFor:
        resolve_for(s, scope, where);
        break;
      case StmtKind::kIf: {
        const Where soft{true, where.in_loop};
        resolve(*s.value, scope, soft);
        resolve(s.body, scope, soft);
        for (const StmtPtr& branch : s.branches) {
          resolve(*branch->value, scope, soft);
          resolve(branch->body, scope, soft);
        }
        resolve(s.otherwise, scope, soft);
        break;
      }
      case StmtKind::kMacro:
        resolve_function(s, scope);
        s.name = place(s.text, s.line, scope);
        break;
      case StmtKind::kCallBlock:
        resolve_function(s, scope);
        if (s.value) resolve(*s.value, scope, where);
        break;
      case StmtKind::kFilterBlock: {
        Scope block(&scope, scope.function());
        collect(s.body, block);
        collect(*s.value, block);
        resolve(s.body, block, inner);
        resolve(*s.value, block, inner);
        s.scope = block.plan();
        break;
      }
      case StmtKind::kSet:
        resolve(*s.target, scope, where);
        resolve(*s.value, scope, where);
        break;
      case StmtKind::kSetBlock: {
        Scope block(&scope, scope.function());
        collect(s.body, block);
        resolve(s.body, block, inner);
        resolve(*s.target, scope, where);
        if (s.value) resolve(*s.value, block, inner);
        s.scope = block.plan();
        break;
      }
      case StmtKind::kWith: {
        Scope block(&scope, scope.function());
        for (const ExprPtr& name : s.parameters) collect(*name, block);
        collect(s.body, block);
        for (const ExprPtr& name : s.parameters) resolve(*name, block, inner);
        for (const ExprPtr& value : s.defaults) resolve(*value, scope, where);
        resolve(s.body, block, inner);
        s.scope = block.plan();
        break;
      }
      case StmtKind::kBreak:
      case StmtKind::kContinue:
        if (!where.in_loop) fail_syntax(s.line, "'break' or 'continue' outside a loop");
        break;
      case StmtKind::kData:
        break;
    }
  }

  void resolve_for(Stmt& s, Scope& scope, Where where) {
    LoopAssignments::check(s);
    UndeclaredNames names({"loop"});
    names.body(s.body);
    const bool extended = s.recursive || names.has("loop");

    FunctionScope own;
    own.plan = &s.function;
    own.depth = scope.function().depth + 1;
    FunctionScope& function = s.recursive ? own : scope.function();

    if (s.condition) {
      FunctionScope condition_function;
      condition_function.plan = &s.condition_function;
      condition_function.depth = function.depth + 1;
      Scope condition(&scope, condition_function);
      collect_target(*s.target, condition);
      collect(*s.condition, condition);
      s.condition_target = copy_target(*s.target);
      resolve(*s.condition_target, condition, {});
      resolve(*s.condition, condition, {});
      s.condition_scope = condition.plan();
    }

    resolve(*s.value, scope, where);
    Scope loop(&scope, function);
    if (extended) s.loop_slot = loop.parameter("loop");
    collect_target(*s.target, loop);
    collect(s.body, loop);
    resolve(*s.target, loop, {});
    resolve(s.body, loop, {false, true});
    s.scope = loop.plan();

    if (!s.otherwise.empty()) {
      Scope otherwise(&scope, function);
      collect(s.otherwise, otherwise);
      resolve(s.otherwise, otherwise, {false, where.in_loop && !s.recursive});
      s.otherwise_scope = otherwise.plan();
    }
  }

  void resolve_function(Stmt& s, Scope& outer) {
    FunctionScope function;
    function.plan = &s.function;
    function.depth = outer.function().depth + 1;
    Scope scope(&outer, function);
    for (const ExprPtr& parameter : s.parameters) collect(*parameter, scope);
    for (const ExprPtr& value : s.defaults) collect(*value, scope);
    collect(s.body, scope);

    std::set<std::string> parameters;
    for (const ExprPtr& parameter : s.parameters) parameters.insert(parameter->text);
    UndeclaredNames names({"caller", "kwargs", "varargs"});
    names.body(s.body);
    if (names.has("caller")) {
      s.explicit_caller = parameters.count("caller") != 0;
      if (!s.explicit_caller) {
        s.caller_slot = scope.parameter("caller");
      } else {
        std::size_t index = 0;
        while (s.parameters[index]->text != "caller") ++index;
        if (s.parameters.size() - index > s.defaults.size()) {
          fail_syntax(s.line, "the special 'caller' argument must be omitted or be given a default");
        }
      }
    }
    if (names.has("kwargs") && parameters.count("kwargs") == 0) s.kwargs_slot = scope.parameter("kwargs");
    if (names.has("varargs") && parameters.count("varargs") == 0) s.varargs_slot = scope.parameter("varargs");

    for (const ExprPtr& parameter : s.parameters) resolve(*parameter, scope, {});
    for (const ExprPtr& value : s.defaults) resolve(*value, scope, {});
    resolve(s.body, scope, {});
    s.scope = scope.plan();
  }

  static VariableRef place(const std::string& name, int line, const Scope& scope) {
    const Place* found = scope.find(name);
    if (found == nullptr) fail_syntax(line, fmt::format("'{}' cannot be used here", name));
    return scope.reference(*found);
  }

  void resolve(Expr& expr, const Scope& scope, Where where) {
    if (expr.kind == ExprKind::kName || expr.kind == ExprKind::kNamespaceRef) {
      expr.variable = place(expr.text, expr.line, scope);
    } else if (expr.kind == ExprKind::kFilter || expr.kind == ExprKind::kTest) {
      const bool filter = expr.kind == ExprKind::kFilter;
      expr.builtin = filter ? find_filter(expr.text) : find_test(expr.text);
      if (expr.builtin == nullptr && (!where.soft || (filter && is_refused_filter(expr.text)))) {
        throw Error(ErrorCode::kUnsupported, fmt::format("[chat template] line {}: no {} named '{}'",
                                                         expr.line, filter ? "filter" : "test", expr.text));
      }
    }
    if (expr.kind == ExprKind::kConditional) where.soft = true;
    for (const ExprPtr& item : expr.items) {
      if (item) resolve(*item, scope, where);
    }
    if (!expr.arguments) return;
    for (const ExprPtr& item : expr.arguments->positional) resolve(*item, scope, where);
    for (const auto& item : expr.arguments->named) resolve(*item.second, scope, where);
    if (expr.arguments->star) resolve(*expr.arguments->star, scope, where);
    if (expr.arguments->double_star) resolve(*expr.arguments->double_star, scope, where);
  }
};

}  // namespace

void analyze_scopes(Template& root) { Analyzer().run(root); }

}  // namespace sabrewing::text::jinja
