#include "text/jinja_interpreter.h"

#include <algorithm>

#include "text/jinja_builtins.h"
#include "text/jinja_ops.h"

namespace sabrewing::text::jinja {
namespace {

/// The `loop` variable.
class Loop final : public Instance, public std::enable_shared_from_this<Loop> {
 public:
  Loop(Interpreter& interpreter, const Stmt& statement, const Value& iterable, int depth0)
      : interpreter_(interpreter), statement_(statement), iterable_(iterable), depth0_(depth0) {}

  /// Where the recursive call of the loop finds outer variables.
  std::shared_ptr<Frame> outer;

  void start(std::shared_ptr<Iterator> source) { source_ = std::move(source); }

  bool advance(Runtime& runtime, Value& out) {
    if (!after_.is_missing()) {
      out = std::move(after_);
      after_ = Value();
    } else if (!draw(runtime, out)) {
      return false;
    }
    ++index0_;
    before_ = std::move(current_);
    current_ = out;
    return true;
  }

  std::string type_name() const override { return "LoopContext"; }
  std::string repr(Runtime& runtime) const override {
    auto& self = const_cast<Loop&>(*this);
    return fmt::format("<LoopContext {}/{}>", index0_ + 1, self.count(runtime));
  }
  bool callable() const override { return true; }
  std::optional<std::size_t> length(Runtime& runtime) override {
    return static_cast<std::size_t>(count(runtime));
  }

  Value attribute(Runtime& runtime, std::string_view name) override {
    if (name == "index") return Value::integer(index0_ + 1);
    if (name == "index0") return Value::integer(index0_);
    if (name == "first") return Value::boolean(index0_ == 0);
    if (name == "last") return Value::boolean(!peek(runtime));
    if (name == "length") return Value::integer(count(runtime));
    if (name == "revindex") return Value::integer(count(runtime) - index0_);
    if (name == "revindex0") return Value::integer(count(runtime) - index0_ - 1);
    if (name == "depth") return Value::integer(depth0_ + 1);
    if (name == "depth0") return Value::integer(depth0_);
    if (name == "previtem") return index0_ == 0 ? runtime.undefined("there is no previous item") : before_;
    if (name == "nextitem") return peek(runtime) ? after_ : runtime.undefined("there is no next item");
    if (name == "cycle" || name == "changed") return method(runtime, name == "cycle");
    return {};
  }

  Value call(Runtime& runtime, const Arguments& arguments) override {
    if (!statement_.recursive)
      runtime.fail_with("the loop must have the 'recursive' marker to be called recursively");
    const auto bound = bind_arguments(runtime, "loop", arguments, {"iterable"}, 1);
    return runtime.string(interpreter_.run_recursive(statement_, outer, bound[0], depth0_ + 1));
  }

  Value cycle(Runtime& runtime, const Arguments& arguments) const {
    if (!arguments.named.empty()) runtime.fail_with("cycle() takes no keyword arguments");
    if (arguments.positional.empty()) runtime.fail_with("no items for cycling given");
    return arguments.positional[static_cast<std::size_t>(index0_) % arguments.positional.size()];
  }

  Value changed(Runtime& runtime, const Arguments& arguments) {
    if (!arguments.named.empty()) runtime.fail_with("changed() takes no keyword arguments");
    Value now = runtime.tuple(arguments.positional);
    if (!last_changed_.is_missing() && equal(runtime, last_changed_, now)) return Value::boolean(false);
    // What is kept may refer back to the loop.
    if (last_changed_.is_missing()) runtime.adopt(shared_from_this());
    last_changed_ = std::move(now);
    return Value::boolean(true);
  }

  void clear() { last_changed_ = Value(); }

 private:
  Value method(Runtime& runtime, bool cycles);

  bool draw(Runtime& runtime, Value& out) {
    if (drained_at_ < drained_.size()) {
      out = drained_[drained_at_++];
      return true;
    }
    return source_->next(runtime, out);
  }

  bool peek(Runtime& runtime) {
    if (!after_.is_missing()) return true;
    Value next;
    if (!draw(runtime, next)) return false;
    after_ = std::move(next);
    return true;
  }

  std::int64_t count(Runtime& runtime) {
    if (length_ < 0) {
      const auto known = statement_.condition ? std::nullopt : length_of(runtime, iterable_);
      if (known) {
        length_ = static_cast<std::int64_t>(*known);
      } else {
        Value item;
        while (source_->next(runtime, item)) {
          if (drained_.size() == drained_.capacity())
            runtime.reserve(2 * (drained_.size() + 1) * sizeof(Value));
          drained_.push_back(std::move(item));
        }
        length_ = static_cast<std::int64_t>(drained_.size() - drained_at_) + index0_ + 1 +
                  (after_.is_missing() ? 0 : 1);
      }
    }
    return length_;
  }

  Interpreter& interpreter_;
  const Stmt& statement_;
  Value iterable_;
  int depth0_;
  std::shared_ptr<Iterator> source_;
  std::vector<Value> drained_;
  std::size_t drained_at_ = 0;
  std::int64_t index0_ = -1;
  std::int64_t length_ = -1;
  Value before_;
  Value current_;
  Value after_;
  Value last_changed_;
};

class LoopMethod final : public Instance {
 public:
  LoopMethod(std::shared_ptr<Loop> loop, bool cycles) : loop_(std::move(loop)), cycles_(cycles) {}
  std::string type_name() const override { return "method"; }
  bool callable() const override { return true; }
  Value call(Runtime& runtime, const Arguments& arguments) override {
    return cycles_ ? loop_->cycle(runtime, arguments) : loop_->changed(runtime, arguments);
  }

 private:
  std::shared_ptr<Loop> loop_;
  bool cycles_;
};

Value Loop::method(Runtime& runtime, bool cycles) {
  return runtime.instance(std::make_shared<LoopMethod>(shared_from_this(), cycles), depth);
}

class Macro final : public Instance {
 public:
  Macro(Interpreter& interpreter, const Stmt& statement, std::shared_ptr<Frame> outer)
      : interpreter_(interpreter), statement_(statement), outer_(std::move(outer)) {}

  std::string type_name() const override { return "Macro"; }
  std::string repr(Runtime&) const override {
    return "<Macro " + (statement_.kind == StmtKind::kMacro ? string_repr(statement_.text) : "anonymous") +
           ">";
  }
  bool callable() const override { return true; }

  Value attribute(Runtime& runtime, std::string_view name) override {
    if (name == "name") {
      return statement_.kind == StmtKind::kMacro ? runtime.string(statement_.text) : Value::none();
    }
    if (name == "arguments") {
      std::vector<Value> names;
      for (const ExprPtr& parameter : statement_.parameters) names.push_back(runtime.string(parameter->text));
      return runtime.tuple(std::move(names));
    }
    if (name == "catch_kwargs") return Value::boolean(statement_.kwargs_slot.has_value());
    if (name == "catch_varargs") return Value::boolean(statement_.varargs_slot.has_value());
    if (name == "caller") return Value::boolean(uses_caller());
    if (name == "explicit_caller") return Value::boolean(has_caller_parameter());
    return {};
  }

  Value call(Runtime& runtime, const Arguments& arguments) override {
    const std::size_t count = statement_.parameters.size();
    const std::size_t given = std::min(arguments.positional.size(), count);
    std::vector<Value> parameters(arguments.positional.begin(),
                                  arguments.positional.begin() + static_cast<std::ptrdiff_t>(given));
    auto named = arguments.named;
    const auto take = [&](std::string_view name) {
      Value out;
      const auto found =
          std::find_if(named.begin(), named.end(), [&](const auto& item) { return item.first == name; });
      if (found != named.end()) {
        out = found->second;
        named.erase(found);
      }
      return out;
    };
    bool found_caller = false;
    if (given != count) {
      for (std::size_t i = given; i < count; ++i) {
        const std::string& name = statement_.parameters[i]->text;
        parameters.push_back(take(name));
        if (name == "caller") found_caller = true;
      }
    } else {
      found_caller = has_caller_parameter();
    }
    Value caller;
    if (uses_caller() && !found_caller) {
      caller = take("caller");
      if (caller.is_missing() || caller.is_none()) caller = runtime.undefined("No caller defined");
    }
    Value kwargs;
    if (statement_.kwargs_slot) {
      auto entries = runtime.new_dict();
      for (const auto& [name, value] : named) entries->set(runtime, runtime.string(name), value);
      kwargs = runtime.dict(std::move(entries));
    } else if (!named.empty()) {
      runtime.fail("macro '{}' takes no keyword argument '{}'", statement_.text, named.front().first);
    }
    Value varargs;
    if (statement_.varargs_slot) {
      varargs = runtime.tuple(
          {arguments.positional.begin() + static_cast<std::ptrdiff_t>(given), arguments.positional.end()});
    } else if (arguments.positional.size() > count) {
      runtime.fail("macro '{}' takes not more than {} argument(s)", statement_.text, count);
    }
    return runtime.string(interpreter_.run_macro(statement_, outer_, parameters, caller, kwargs, varargs));
  }

 private:
  bool uses_caller() const { return statement_.caller_slot.has_value() || statement_.explicit_caller; }
  bool has_caller_parameter() const {
    return std::any_of(statement_.parameters.begin(), statement_.parameters.end(),
                       [](const ExprPtr& parameter) { return parameter->text == "caller"; });
  }

  Interpreter& interpreter_;
  const Stmt& statement_;
  std::shared_ptr<Frame> outer_;
};

}  // namespace

/// The items of a loop's iterable that meet its condition.
class ConditionIterator final : public Iterator {
 public:
  ConditionIterator(Interpreter& interpreter, const Stmt& statement, std::shared_ptr<Iterator> source,
                    std::shared_ptr<Frame> frame)
      : interpreter_(interpreter),
        statement_(statement),
        source_(std::move(source)),
        frame_(std::move(frame)) {}

  bool next(Runtime& runtime, Value& out) override {
    if (!entered_) {
      interpreter_.enter(statement_.condition_scope, *frame_);
      entered_ = true;
    }
    Value item;
    while (source_->next(runtime, item)) {
      interpreter_.assign(*statement_.condition_target, item, *frame_);
      if (!truthy(runtime, interpreter_.eval(*statement_.condition, *frame_))) continue;
      out = interpreter_.reread(*statement_.condition_target, *frame_);
      return true;
    }
    return false;
  }

 private:
  Interpreter& interpreter_;
  const Stmt& statement_;
  std::shared_ptr<Iterator> source_;
  std::shared_ptr<Frame> frame_;
  bool entered_ = false;
};

Interpreter::Interpreter(const Template& root, const Dict& context, Runtime& runtime)
    : template_(root), context_(context), runtime_(runtime) {}

std::string Interpreter::run() {
  const auto frame = std::make_shared<Frame>(runtime_, template_.function, nullptr);
  enter(template_.scope, *frame);
  std::string out;
  exec(template_.body, *frame, out);
  return out;
}

Value& Interpreter::variable(const VariableRef& reference, Frame& frame) {
  Frame* at = &frame;
  for (int i = 0; i < reference.hops; ++i) at = at->parent.get();
  return at->slots[reference.slot];
}

void Interpreter::enter(const ScopePlan& scope, Frame& frame) {
  runtime_.step(scope.loads.size());
  for (const ScopeLoad& load : scope.loads) {
    switch (load.action) {
      case LoadAction::kParameter:
        break;
      case LoadAction::kResolve: {
        const Value* found = context_.find(load.name);
        frame.slots[load.slot] = found != nullptr ? *found : find_global(runtime_, load.name);
        break;
      }
      case LoadAction::kAlias:
        frame.slots[load.slot] = variable(load.source, frame);
        break;
      case LoadAction::kUndefined:
        frame.slots[load.slot] = Value();
        break;
    }
  }
}

void Interpreter::leave(const ScopePlan& scope, Frame& frame) {
  for (const ScopeLoad& load : scope.loads) frame.slots[load.slot] = Value();
}

std::shared_ptr<Frame> Interpreter::capture(Frame& frame) {
  auto shared = frame.shared_from_this();
  if (!frame.adopted) {
    runtime_.adopt(shared);
    frame.adopted = true;
  }
  return shared;
}

Value Interpreter::make_macro(const Stmt& s, Frame& frame) {
  return runtime_.instance(std::make_shared<Macro>(*this, s, capture(frame)));
}

void Interpreter::emit(std::string& out, std::string_view text) {
  runtime_.step(text.size() / 64);
  out += text;
  if (out.size() > runtime_.limits().output_bytes) {
    runtime_.fail("more than {} bytes of output", runtime_.limits().output_bytes);
  }
}

Interpreter::Flow Interpreter::exec(const Body& body, Frame& frame, std::string& out) {
  for (const StmtPtr& statement : body) {
    const Flow flow = exec(*statement, frame, out);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::exec(const Stmt& s, Frame& frame, std::string& out) {
  const DepthGuard guard(runtime_);
  runtime_.step();
  runtime_.line = s.line;
  switch (s.kind) {
    case StmtKind::kData:
      emit(out, s.text);
      return Flow::kNext;
    case StmtKind::kOutput: {
      const Value value = eval(*s.value, frame);
      if (value.is_string()) {
        emit(out, value.text());
      } else {
        emit(out, str(runtime_, value));
      }
      return Flow::kNext;
    }
    case StmtKind::kIf: {
      if (truthy(runtime_, eval(*s.value, frame))) return exec(s.body, frame, out);
      for (const StmtPtr& branch : s.branches) {
        runtime_.line = branch->line;
        if (truthy(runtime_, eval(*branch->value, frame))) return exec(branch->body, frame, out);
      }
      return exec(s.otherwise, frame, out);
    }
    case StmtKind::kFor: {
      const Value iterable = eval(*s.value, frame);
      if (s.recursive) {
        emit(out, run_recursive(s, capture(frame), iterable, 0));
        return Flow::kNext;
      }
      return exec_for(s, frame, iterable, 0, out);
    }
    case StmtKind::kMacro:
      variable(s.name, frame) = make_macro(s, frame);
      return Flow::kNext;
    case StmtKind::kCallBlock:
      exec_call_block(s, frame, out);
      return Flow::kNext;
    case StmtKind::kFilterBlock:
    case StmtKind::kSetBlock: {
      enter(s.scope, frame);
      std::string buffer;
      const Flow flow = exec(s.body, frame, buffer);
      if (flow != Flow::kNext) return flow;
      runtime_.line = s.line;
      Value value = runtime_.string(std::move(buffer));
      if (s.value) value = eval_filter(*s.value, frame, &value);
      if (s.kind == StmtKind::kSetBlock) {
        assign(*s.target, value, frame);
      } else {
        emit(out, string_argument(runtime_, value, "the result of a filter block"));
      }
      leave(s.scope, frame);
      return Flow::kNext;
    }
    case StmtKind::kSet:
      exec_set(s, frame);
      return Flow::kNext;
    case StmtKind::kWith: {
      enter(s.scope, frame);
      for (std::size_t i = 0; i < s.parameters.size(); ++i) {
        assign(*s.parameters[i], eval(*s.defaults[i], frame), frame);
      }
      const Flow flow = exec(s.body, frame, out);
      if (flow == Flow::kNext) leave(s.scope, frame);
      return flow;
    }
    case StmtKind::kBreak:
      return Flow::kBreak;
    case StmtKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::exec_for(const Stmt& s, Frame& frame, const Value& iterable, int depth,
                                        std::string& out) {
  std::shared_ptr<Iterator> source = iterate(runtime_, iterable);
  if (s.condition) {
    auto inner = std::make_shared<Frame>(runtime_, s.condition_function, frame.shared_from_this());
    source = std::make_shared<ConditionIterator>(*this, s, std::move(source), std::move(inner));
  }
  std::shared_ptr<Loop> loop;
  if (s.loop_slot) {
    loop = std::make_shared<Loop>(*this, s, iterable, depth);
    // A loop that outlives its statement may be reached from what it refers to.
    if (s.recursive) loop->outer = capture(*frame.parent);
    if (s.condition) capture(frame);
    loop->start(source);
  }
  bool completed = false;
  Value item;
  while (loop ? loop->advance(runtime_, item) : source->next(runtime_, item)) {
    runtime_.step();
    runtime_.line = s.line;
    assign(*s.target, item, frame);
    if (loop) frame.slots[*s.loop_slot] = runtime_.instance(loop, iterable.depth());
    enter(s.scope, frame);
    const Flow flow = exec(s.body, frame, out);
    if (flow == Flow::kBreak) break;
    if (flow == Flow::kNext) completed = true;
  }
  leave(s.scope, frame);
  if (completed || s.otherwise.empty()) return Flow::kNext;
  enter(s.otherwise_scope, frame);
  const Flow flow = exec(s.otherwise, frame, out);
  if (flow == Flow::kNext) leave(s.otherwise_scope, frame);
  return flow;
}

std::string Interpreter::run_recursive(const Stmt& loop, const std::shared_ptr<Frame>& outer,
                                       const Value& iterable, int depth) {
  const DepthGuard guard(runtime_);
  const auto frame = std::make_shared<Frame>(runtime_, loop.function, outer);
  std::string out;
  exec_for(loop, *frame, iterable, depth, out);
  return out;
}

std::string Interpreter::run_macro(const Stmt& macro, const std::shared_ptr<Frame>& outer,
                                   const std::vector<Value>& parameters, const Value& caller,
                                   const Value& kwargs, const Value& varargs) {
  const DepthGuard guard(runtime_);
  const int line = runtime_.line;
  const auto frame = std::make_shared<Frame>(runtime_, macro.function, outer);
  const auto slot = [&](std::size_t i) -> Value& { return frame->slots[macro.parameters[i]->variable.slot]; };
  for (std::size_t i = 0; i < parameters.size(); ++i) slot(i) = parameters[i];
  if (macro.caller_slot) frame->slots[*macro.caller_slot] = caller;
  if (macro.kwargs_slot) frame->slots[*macro.kwargs_slot] = kwargs;
  if (macro.varargs_slot) frame->slots[*macro.varargs_slot] = varargs;
  enter(macro.scope, *frame);
  const std::size_t without_default = macro.parameters.size() - macro.defaults.size();
  for (std::size_t i = 0; i < macro.parameters.size(); ++i) {
    if (!slot(i).is_missing()) continue;
    if (i >= without_default) {
      slot(i) = eval(*macro.defaults[i - without_default], *frame);
    } else {
      slot(i) = runtime_.undefined(
          fmt::format("parameter {} was not provided", string_repr(macro.parameters[i]->text)));
    }
  }
  std::string out;
  exec(macro.body, *frame, out);
  runtime_.line = line;
  return out;
}

void Interpreter::exec_call_block(const Stmt& s, Frame& frame, std::string& out) {
  const Value caller = make_macro(s, frame);
  if (!s.value) {
    emit(out, call_value(runtime_, caller, {}).text());
    return;
  }
  const Expr& call = *s.value;
  const Value callee = eval(*call.items[0], frame);
  Arguments arguments = eval_arguments(call, frame);
  for (const auto& item : arguments.named) {
    if (item.first == "caller") runtime_.fail_with("keyword argument repeated: caller");
  }
  arguments.named.emplace_back("caller", caller);
  runtime_.line = call.line;
  const Value result = call_value(runtime_, callee, arguments);
  emit(out, string_argument(runtime_, result, "the result of a call block"));
}

void Interpreter::exec_set(const Stmt& s, Frame& frame) {
  const auto check = [&](const auto& self, const Expr& target) -> void {
    if (target.kind == ExprKind::kNamespaceRef && !variable(target.variable, frame).is(Kind::kNamespace)) {
      runtime_.fail_with("cannot assign attribute on non-namespace object");
    }
    for (const ExprPtr& item : target.items) self(self, *item);
  };
  check(check, *s.target);
  assign(*s.target, eval(*s.value, frame), frame);
}

void Interpreter::assign(const Expr& target, const Value& value, Frame& frame) {
  if (target.kind == ExprKind::kName) {
    variable(target.variable, frame) = value;
    return;
  }
  if (target.kind == ExprKind::kNamespaceRef) {
    const Value holder = variable(target.variable, frame);
    if (!holder.is(Kind::kNamespace)) runtime_.fail_with("cannot assign attribute on non-namespace object");
    if (target.attribute[0] == '_') {
      runtime_.fail("a namespace cannot have the underscore-prefixed attribute {}",
                    string_repr(target.attribute));
    }
    holder.as<Namespace>().attributes.set(runtime_, runtime_.string(target.attribute), value);
    return;
  }
  if (!is_iterable(value)) runtime_.fail("cannot unpack non-iterable {} object", type_name(value));
  std::vector<Value> parts;
  const auto source = iterate(runtime_, value);
  Value part;
  while (parts.size() <= target.items.size() && source->next(runtime_, part)) parts.push_back(part);
  if (parts.size() != target.items.size()) {
    runtime_.fail("{} values to unpack (expected {})",
                  parts.size() > target.items.size() ? "too many" : "not enough", target.items.size());
  }
  for (std::size_t i = 0; i < parts.size(); ++i) assign(*target.items[i], parts[i], frame);
}

Value Interpreter::reread(const Expr& target, Frame& frame) {
  if (target.kind == ExprKind::kName) return variable(target.variable, frame);
  std::vector<Value> parts;
  for (const ExprPtr& item : target.items) parts.push_back(reread(*item, frame));
  return runtime_.tuple(std::move(parts));
}

Arguments Interpreter::eval_arguments(const Expr& expr, Frame& frame) {
  const CallArguments& given = *expr.arguments;
  Arguments out;
  out.positional.reserve(given.positional.size());
  for (const ExprPtr& item : given.positional) out.positional.push_back(eval(*item, frame));
  Value star;
  if (given.star) {
    for (Value& item : to_vector(runtime_, eval(*given.star, frame)))
      out.positional.push_back(std::move(item));
  }
  for (const auto& [name, item] : given.named) out.named.emplace_back(name, eval(*item, frame));
  if (!given.double_star) return out;
  const Value mapping = eval(*given.double_star, frame);
  require_defined(runtime_, mapping);
  if (!mapping.is(Kind::kDict))
    runtime_.fail("argument after ** must be a mapping, not {}", type_name(mapping));
  for (const auto& [key, value] : mapping.as<Dict>().entries()) {
    const std::string& name = string_argument(runtime_, key, "a keyword");
    for (const auto& item : out.named) {
      if (item.first == name) runtime_.fail("got multiple values for keyword argument '{}'", name);
    }
    out.named.emplace_back(name, value);
  }
  return out;
}

Value Interpreter::eval(const Expr& expr, Frame& frame) {
  const DepthGuard guard(runtime_);
  runtime_.step();
  const auto item = [&](std::size_t i) { return eval(*expr.items[i], frame); };
  switch (expr.kind) {
    case ExprKind::kConst:
      return expr.value;
    case ExprKind::kName: {
      const Value& value = variable(expr.variable, frame);
      if (!value.is_missing()) return value;
      return runtime_.undefined(string_repr(expr.text) + " is undefined");
    }
    case ExprKind::kTuple:
    case ExprKind::kList: {
      std::vector<Value> items;
      items.reserve(expr.items.size());
      for (const ExprPtr& element : expr.items) items.push_back(eval(*element, frame));
      return expr.kind == ExprKind::kList ? runtime_.list(std::move(items))
                                          : runtime_.tuple(std::move(items));
    }
    case ExprKind::kDict: {
      auto entries = runtime_.new_dict();
      for (std::size_t i = 0; i < expr.items.size(); i += 2) {
        const Value key = item(i);
        Value value = item(i + 1);
        runtime_.line = expr.line;
        entries->set(runtime_, key, std::move(value));
      }
      return runtime_.dict(std::move(entries));
    }
    case ExprKind::kConditional:
      if (truthy(runtime_, item(1))) return item(0);
      if (expr.items[2]) return item(2);
      return runtime_.undefined(fmt::format(
          "the inline if-expression on line {} evaluated to false and no else section was defined.",
          expr.line));
    case ExprKind::kAnd: {
      Value left = item(0);
      return truthy(runtime_, left) ? item(1) : left;
    }
    case ExprKind::kOr: {
      Value left = item(0);
      return truthy(runtime_, left) ? left : item(1);
    }
    case ExprKind::kNot:
      return Value::boolean(!truthy(runtime_, item(0)));
    case ExprKind::kNegative:
      return negative(runtime_, item(0));
    case ExprKind::kPositive:
      return positive(runtime_, item(0));
    case ExprKind::kBinary: {
      const Value left = item(0);
      const Value right = item(1);
      runtime_.line = expr.line;
      return binary(runtime_, expr.text, left, right);
    }
    case ExprKind::kConcat: {
      std::string out;
      for (std::size_t i = 0; i < expr.items.size(); ++i) {
        out += str(runtime_, item(i));
        if (out.size() > runtime_.limits().memory_bytes) runtime_.reserve(out.size());
      }
      return runtime_.string(std::move(out));
    }
    case ExprKind::kCompare:
      return eval_compare(expr, frame);
    case ExprKind::kGetattr: {
      const Value object = item(0);
      runtime_.line = expr.line;
      return get_attribute(runtime_, object, runtime_.string(expr.text));
    }
    case ExprKind::kGetitem: {
      const Value object = item(0);
      const Value key = item(1);
      runtime_.line = expr.line;
      return get_item(runtime_, object, key);
    }
    case ExprKind::kSlice: {
      Value parts[4];
      for (std::size_t i = 0; i < 4; ++i) {
        if (expr.items[i]) parts[i] = item(i);
      }
      runtime_.line = expr.line;
      return get_slice(runtime_, parts[0], parts[1], parts[2], parts[3]);
    }
    case ExprKind::kCall: {
      const Value callee = item(0);
      const Arguments arguments = eval_arguments(expr, frame);
      runtime_.line = expr.line;
      return call_value(runtime_, callee, arguments);
    }
    case ExprKind::kFilter:
      return eval_filter(expr, frame, nullptr);
    case ExprKind::kTest: {
      const Value value = item(0);
      const Arguments arguments = eval_arguments(expr, frame);
      runtime_.line = expr.line;
      if (expr.builtin == nullptr) runtime_.refuse(fmt::format("no test named '{}'", expr.text));
      return expr.builtin(*this, value, arguments);
    }
    case ExprKind::kNamespaceRef:
      break;
  }
  runtime_.fail_with("an assignment target in the place of a value");
}

Value Interpreter::eval_compare(const Expr& expr, Frame& frame) {
  Value left = eval(*expr.items[0], frame);
  for (std::size_t i = 0; i < expr.operators.size(); ++i) {
    Value right = eval(*expr.items[i + 1], frame);
    runtime_.line = expr.line;
    if (!relation(runtime_, expr.operators[i], left, right)) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

Value Interpreter::eval_filter(const Expr& expr, Frame& frame, const Value* body) {
  const DepthGuard guard(runtime_);
  Value value;
  if (!expr.items[0]) {
    value = *body;
  } else if (body != nullptr && expr.items[0]->kind == ExprKind::kFilter) {
    value = eval_filter(*expr.items[0], frame, body);
  } else {
    value = eval(*expr.items[0], frame);
  }
  const Arguments arguments = eval_arguments(expr, frame);
  runtime_.line = expr.line;
  if (expr.builtin == nullptr) runtime_.refuse(fmt::format("no filter named '{}'", expr.text));
  return expr.builtin(*this, value, arguments);
}

Value Interpreter::call_filter(const Value& name, const Value& value, const Arguments& arguments) {
  const DepthGuard guard(runtime_);
  const Builtin builtin = name.is_string() ? find_filter(name.text()) : nullptr;
  if (builtin == nullptr) runtime_.refuse(fmt::format("no filter named {}", repr(runtime_, name)));
  return builtin(*this, value, arguments);
}

Value Interpreter::call_test(const Value& name, const Value& value, const Arguments& arguments) {
  const DepthGuard guard(runtime_);
  const Builtin builtin = name.is_string() ? find_test(name.text()) : nullptr;
  if (builtin == nullptr) runtime_.refuse(fmt::format("no test named {}", repr(runtime_, name)));
  return builtin(*this, value, arguments);
}

}  // namespace sabrewing::text::jinja
