#include "text/jinja_parser.h"

#include <algorithm>
#include <initializer_list>

#include "core/error.h"
#include "text/jinja_lexer.h"

namespace sabrewing::text::jinja {
namespace {

/// Expression trees and nested blocks may be this deep.
constexpr int kMaxExprDepth = 300;
constexpr int kMaxBlockDepth = 100;
/// Recursive descent through parentheses; each takes about a dozen calls.
constexpr int kMaxRecursion = 120;

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokenize(source)) {}

  Template run() {
    Template out;
    out.body = statements({});
    analyze_scopes(out);
    return out;
  }

 private:
  using Words = std::initializer_list<std::string_view>;

  struct Recursion {
    explicit Recursion(Parser& owner) : parser(owner) {
      if (++parser.recursion_ > kMaxRecursion) parser.fail_here("an expression is nested too deep");
    }
    ~Recursion() { --parser.recursion_; }
    Recursion(const Recursion&) = delete;
    Recursion& operator=(const Recursion&) = delete;
    Parser& parser;
  };

  // Tokens.
  const Token& current() const { return tokens_[position_]; }
  const Token& look() const { return tokens_[std::min(position_ + 1, tokens_.size() - 1)]; }
  const Token& advance() {
    const Token& token = tokens_[position_];
    if (position_ + 1 < tokens_.size()) ++position_;
    return token;
  }
  [[noreturn]] void fail_here(const std::string& message) const { fail_syntax(current().line, message); }
  static bool is_op(const Token& token, std::string_view op) {
    return token.kind == TokenKind::kOperator && token.text == op;
  }
  static bool is_word(const Token& token, std::string_view word) {
    return token.kind == TokenKind::kName && token.text == word;
  }
  bool at_op(std::string_view op) const { return is_op(current(), op); }
  bool at_word(std::string_view word) const { return is_word(current(), word); }
  bool at_any_word(Words words) const {
    return current().kind == TokenKind::kName &&
           std::find(words.begin(), words.end(), current().text) != words.end();
  }
  bool skip_op(std::string_view op) {
    if (!at_op(op)) return false;
    advance();
    return true;
  }
  bool skip_word(std::string_view word) {
    if (!at_word(word)) return false;
    advance();
    return true;
  }
  void expect_op(std::string_view op) {
    if (!skip_op(op)) fail_here(fmt::format("expected '{}', got {}", op, describe(current())));
  }
  void expect_word(std::string_view word) {
    if (!skip_word(word)) fail_here(fmt::format("expected '{}', got {}", word, describe(current())));
  }
  void expect(TokenKind kind, std::string_view what) {
    if (current().kind != kind) fail_here(fmt::format("expected {}, got {}", what, describe(current())));
    advance();
  }
  std::string expect_name() {
    if (current().kind != TokenKind::kName)
      fail_here(fmt::format("expected a name, got {}", describe(current())));
    return advance().text;
  }
  static std::string describe(const Token& token) {
    switch (token.kind) {
      case TokenKind::kName:
      case TokenKind::kOperator:
        return fmt::format("'{}'", token.text);
      case TokenKind::kString:
        return "a string";
      case TokenKind::kInteger:
      case TokenKind::kFloat:
        return "a number";
      case TokenKind::kVariableEnd:
        return "'}}'";
      case TokenKind::kBlockEnd:
        return "'%}'";
      case TokenKind::kEnd:
        return "the end of the template";
      default:
        return "template text";
    }
  }

  // Nodes.
  ExprPtr node(ExprKind kind, int line, std::vector<ExprPtr> items = {}, std::string text = {}) const {
    auto out = std::make_unique<Expr>();
    out->kind = kind;
    out->line = line;
    out->text = std::move(text);
    out->items = std::move(items);
    for (const ExprPtr& item : out->items) deepen(*out, item);
    return out;
  }
  void deepen(Expr& parent, const ExprPtr& child) const {
    if (!child) return;
    parent.depth = std::max(parent.depth, child->depth + 1);
    if (parent.depth > kMaxExprDepth) fail_here("an expression is nested too deep");
  }
  template <typename... Items>
  ExprPtr make(ExprKind kind, int line, std::string text, Items... items) const {
    std::vector<ExprPtr> list;
    (list.push_back(std::move(items)), ...);
    return node(kind, line, std::move(list), std::move(text));
  }
  ExprPtr constant(int line, Value value) const {
    ExprPtr out = node(ExprKind::kConst, line);
    out->value = std::move(value);
    return out;
  }
  void give_arguments(Expr& call, std::unique_ptr<CallArguments> arguments) const {
    for (const ExprPtr& item : arguments->positional) deepen(call, item);
    for (const auto& item : arguments->named) deepen(call, item.second);
    deepen(call, arguments->star);
    deepen(call, arguments->double_star);
    call.arguments = std::move(arguments);
  }

  // Statements.
  Body statements(Words ends) {
    if (++blocks_ > kMaxBlockDepth) fail_here("blocks are nested too deep");
    Body body;
    while (true) {
      const Token& token = current();
      if (token.kind == TokenKind::kEnd) break;
      if (token.kind == TokenKind::kData) {
        StmtPtr data = statement(StmtKind::kData);
        data->text = advance().text;
        body.push_back(std::move(data));
      } else if (token.kind == TokenKind::kVariableBegin) {
        StmtPtr output = statement(StmtKind::kOutput);
        advance();
        output->value = tuple();
        expect(TokenKind::kVariableEnd, "'}}'");
        body.push_back(std::move(output));
      } else {
        advance();
        if (at_any_word(ends)) break;
        tag(body);
        expect(TokenKind::kBlockEnd, "'%}'");
      }
    }
    --blocks_;
    return body;
  }

  /// The body of a tag up to one of `ends`, which stays the current token.
  Body block(Words ends) {
    skip_op(":");
    expect(TokenKind::kBlockEnd, "'%}'");
    Body body = statements(ends);
    if (current().kind == TokenKind::kEnd) {
      fail_here(fmt::format("the template ends before '{}'", *(ends.end() - 1)));
    }
    return body;
  }
  Body block_to(std::string_view end) {
    Body body = block({end});
    advance();
    return body;
  }

  StmtPtr statement(StmtKind kind) const {
    auto out = std::make_unique<Stmt>();
    out->kind = kind;
    out->line = current().line;
    return out;
  }

  void tag(Body& body) {
    if (current().kind != TokenKind::kName)
      fail_here(fmt::format("expected a tag name, got {}", describe(current())));
    const std::string& name = current().text;
    if (name == "print") {
      print_tag(body);
      return;
    }
    struct Entry {
      std::string_view name;
      StmtPtr (Parser::*parse)();
    };
    constexpr Entry kTags[] = {
        {"for", &Parser::for_tag},    {"if", &Parser::if_tag},
        {"set", &Parser::set_tag},    {"macro", &Parser::macro_tag},
        {"call", &Parser::call_tag},  {"filter", &Parser::filter_tag},
        {"with", &Parser::with_tag},  {"generation", &Parser::generation_tag},
        {"break", &Parser::jump_tag}, {"continue", &Parser::jump_tag},
    };
    for (const Entry& entry : kTags) {
      if (entry.name == name) {
        body.push_back((this->*entry.parse)());
        return;
      }
    }
    for (const std::string_view known : {"block", "extends", "include", "import", "from", "autoescape"}) {
      if (known == name) {
        throw Error(ErrorCode::kUnsupported,
                    fmt::format("[chat template] line {}: tag '{}' is not supported", current().line, name));
      }
    }
    fail_here(fmt::format("unknown tag '{}'", name));
  }

  void print_tag(Body& body) {
    advance();
    bool first = true;
    while (current().kind != TokenKind::kBlockEnd) {
      if (!first) expect_op(",");
      first = false;
      StmtPtr output = statement(StmtKind::kOutput);
      output->value = expression();
      body.push_back(std::move(output));
    }
  }

  StmtPtr for_tag() {
    StmtPtr out = statement(StmtKind::kFor);
    advance();
    out->target = target(false, "in");
    expect_word("in");
    out->value = tuple(false, "recursive");
    if (skip_word("if")) out->condition = expression();
    out->recursive = skip_word("recursive");
    out->body = block({"endfor", "else"});
    if (advance().text == "else") out->otherwise = block_to("endfor");
    return out;
  }

  StmtPtr if_tag() {
    StmtPtr out = statement(StmtKind::kIf);
    Stmt* part = out.get();
    while (true) {
      advance();
      part->value = tuple(false);
      part->body = block({"elif", "else", "endif"});
      if (at_word("elif")) {
        out->branches.push_back(statement(StmtKind::kIf));
        part = out->branches.back().get();
        continue;
      }
      if (advance().text == "else") out->otherwise = block_to("endif");
      return out;
    }
  }

  StmtPtr set_tag() {
    StmtPtr out = statement(StmtKind::kSet);
    advance();
    out->target = target(true);
    if (skip_op("=")) {
      out->value = tuple();
      return out;
    }
    out->kind = StmtKind::kSetBlock;
    out->value = filters(nullptr);
    out->body = block_to("endset");
    return out;
  }

  void signature(Stmt& out) {
    expect_op("(");
    while (!at_op(")")) {
      if (!out.parameters.empty()) expect_op(",");
      ExprPtr parameter = name_target();
      parameter->use = NameUse::kParameter;
      for (const ExprPtr& other : out.parameters) {
        if (other->text == parameter->text)
          fail_here(fmt::format("duplicate parameter '{}'", parameter->text));
      }
      if (skip_op("=")) {
        out.defaults.push_back(expression());
      } else if (!out.defaults.empty()) {
        fail_here("non-default argument follows default argument");
      }
      out.parameters.push_back(std::move(parameter));
    }
    expect_op(")");
  }

  StmtPtr macro_tag() {
    StmtPtr out = statement(StmtKind::kMacro);
    advance();
    out->text = name_target()->text;
    signature(*out);
    out->body = block_to("endmacro");
    return out;
  }

  StmtPtr call_tag() {
    StmtPtr out = statement(StmtKind::kCallBlock);
    advance();
    if (at_op("(")) signature(*out);
    out->value = expression();
    if (out->value->kind != ExprKind::kCall) fail_syntax(out->line, "expected a call");
    out->body = block_to("endcall");
    return out;
  }

  StmtPtr generation_tag() {
    StmtPtr out = statement(StmtKind::kCallBlock);
    advance();
    out->body = block_to("endgeneration");
    return out;
  }

  StmtPtr filter_tag() {
    StmtPtr out = statement(StmtKind::kFilterBlock);
    advance();
    out->value = filters(one_filter(nullptr));
    out->body = block_to("endfilter");
    return out;
  }

  StmtPtr with_tag() {
    StmtPtr out = statement(StmtKind::kWith);
    advance();
    while (current().kind != TokenKind::kBlockEnd) {
      if (!out->parameters.empty()) expect_op(",");
      ExprPtr name = target(false);
      set_use(*name, NameUse::kParameter);
      out->parameters.push_back(std::move(name));
      expect_op("=");
      out->defaults.push_back(expression());
    }
    out->body = block_to("endwith");
    return out;
  }

  StmtPtr jump_tag() {
    StmtPtr out = statement(at_word("break") ? StmtKind::kBreak : StmtKind::kContinue);
    advance();
    return out;
  }

  // Targets.
  ExprPtr name_target() {
    const int line = current().line;
    ExprPtr out = make(ExprKind::kName, line, expect_name());
    set_use(*out, NameUse::kStore);
    check_assignable(*out);
    return out;
  }

  ExprPtr target(bool with_namespace, std::string_view end_word = {}) {
    ExprPtr out = tuple_of([&] { return primary(with_namespace); }, end_word, false);
    check_assignable(*out);
    set_use(*out, NameUse::kStore);
    return out;
  }

  static void set_use(Expr& expr, NameUse use) {
    expr.use = use;
    for (const ExprPtr& item : expr.items) set_use(*item, use);
  }

  void check_assignable(const Expr& expr) const {
    constexpr std::string_view kConstants[] = {"true", "false", "none", "True", "False", "None"};
    bool ok = expr.kind == ExprKind::kNamespaceRef || expr.kind == ExprKind::kTuple;
    if (expr.kind == ExprKind::kName) {
      ok = std::find(std::begin(kConstants), std::end(kConstants), expr.text) == std::end(kConstants);
    }
    if (!ok) fail_syntax(expr.line, "cannot assign to this expression");
    if (expr.kind == ExprKind::kTuple) {
      for (const ExprPtr& item : expr.items) check_assignable(*item);
    }
  }

  // Expressions, by precedence.
  template <typename ParseItem>
  ExprPtr tuple_of(ParseItem&& item, std::string_view end_word, bool explicit_parentheses) {
    int line = current().line;
    std::vector<ExprPtr> items;
    bool is_tuple = false;
    while (true) {
      if (!items.empty()) expect_op(",");
      if (at_tuple_end(end_word)) break;
      items.push_back(item());
      if (!at_op(",")) break;
      is_tuple = true;
      line = current().line;
    }
    if (!is_tuple) {
      if (!items.empty()) return std::move(items.front());
      if (!explicit_parentheses)
        fail_here(fmt::format("expected an expression, got {}", describe(current())));
    }
    return node(ExprKind::kTuple, line, std::move(items));
  }

  bool at_tuple_end(std::string_view end_word) const {
    const TokenKind kind = current().kind;
    return kind == TokenKind::kVariableEnd || kind == TokenKind::kBlockEnd || at_op(")") ||
           (!end_word.empty() && at_word(end_word));
  }

  ExprPtr tuple(bool with_conditional = true, std::string_view end_word = {},
                bool explicit_parentheses = false) {
    return tuple_of([&] { return with_conditional ? expression() : disjunction(); }, end_word,
                    explicit_parentheses);
  }

  ExprPtr expression() {
    const Recursion guard(*this);
    int line = current().line;
    ExprPtr out = disjunction();
    while (skip_word("if")) {
      ExprPtr condition = disjunction();
      ExprPtr other = skip_word("else") ? expression() : nullptr;
      out = make(ExprKind::kConditional, line, {}, std::move(out), std::move(condition), std::move(other));
      line = current().line;
    }
    return out;
  }

  ExprPtr disjunction() {
    const int line = current().line;
    ExprPtr out = conjunction();
    while (skip_word("or")) out = make(ExprKind::kOr, line, {}, std::move(out), conjunction());
    return out;
  }

  ExprPtr conjunction() {
    const int line = current().line;
    ExprPtr out = negation();
    while (skip_word("and")) out = make(ExprKind::kAnd, line, {}, std::move(out), negation());
    return out;
  }

  ExprPtr negation() {
    if (!at_word("not")) return comparison();
    const Recursion guard(*this);
    const int line = advance().line;
    return make(ExprKind::kNot, line, {}, negation());
  }

  ExprPtr comparison() {
    const int line = current().line;
    ExprPtr first = sum();
    std::vector<ExprPtr> operands;
    std::vector<std::string> operators;
    while (true) {
      std::string op;
      for (const std::string_view symbol : {"==", "!=", "<", "<=", ">", ">="}) {
        if (at_op(symbol)) op = symbol;
      }
      if (!op.empty() || at_word("in")) {
        op = advance().text;
      } else if (at_word("not") && is_word(look(), "in")) {
        advance();
        advance();
        op = "not in";
      } else {
        break;
      }
      operators.push_back(op);
      operands.push_back(sum());
    }
    if (operands.empty()) return first;
    operands.insert(operands.begin(), std::move(first));
    ExprPtr out = node(ExprKind::kCompare, line, std::move(operands));
    out->operators = std::move(operators);
    return out;
  }

  ExprPtr binary(std::initializer_list<std::string_view> ops, ExprPtr (Parser::*operand)()) {
    const int line = current().line;
    ExprPtr out = (this->*operand)();
    while (current().kind == TokenKind::kOperator &&
           std::find(ops.begin(), ops.end(), current().text) != ops.end()) {
      std::string op = advance().text;
      out = make(ExprKind::kBinary, line, std::move(op), std::move(out), (this->*operand)());
    }
    return out;
  }

  ExprPtr sum() { return binary({"+", "-"}, &Parser::concatenation); }

  ExprPtr concatenation() {
    const int line = current().line;
    std::vector<ExprPtr> items;
    items.push_back(product());
    while (skip_op("~")) items.push_back(product());
    if (items.size() == 1) return std::move(items.front());
    return node(ExprKind::kConcat, line, std::move(items));
  }

  ExprPtr product() { return binary({"*", "/", "//", "%"}, &Parser::power); }
  ExprPtr power() { return binary({"**"}, &Parser::unary_with_filters); }
  ExprPtr unary_with_filters() { return unary(true); }

  ExprPtr unary(bool with_filters) {
    const int line = current().line;
    ExprPtr out;
    if (at_op("-") || at_op("+")) {
      const Recursion guard(*this);
      const ExprKind kind = advance().text == "-" ? ExprKind::kNegative : ExprKind::kPositive;
      out = make(kind, line, {}, unary(false));
    } else {
      out = primary(false);
    }
    out = postfix(std::move(out));
    return with_filters ? filters_and_tests(std::move(out)) : std::move(out);
  }

  ExprPtr primary(bool with_namespace) {
    const Token& token = current();
    const int line = token.line;
    switch (token.kind) {
      case TokenKind::kName: {
        const std::string name = advance().text;
        if (name == "true" || name == "True") return constant(line, Value::boolean(true));
        if (name == "false" || name == "False") return constant(line, Value::boolean(false));
        if (name == "none" || name == "None") return constant(line, Value::none());
        ExprPtr out = make(ExprKind::kName, line, name);
        if (with_namespace && skip_op(".")) {
          out->kind = ExprKind::kNamespaceRef;
          out->attribute = expect_name();
        }
        return out;
      }
      case TokenKind::kString: {
        std::string text;
        while (current().kind == TokenKind::kString) text += advance().text;
        return constant(line, Value::object(Kind::kString, std::make_shared<String>(std::move(text), false)));
      }
      case TokenKind::kInteger:
        return constant(line, Value::integer(advance().integer));
      case TokenKind::kFloat:
        return constant(line, Value::number(advance().number));
      default:
        break;
    }
    if (skip_op("(")) {
      const Recursion guard(*this);
      ExprPtr out = tuple(true, {}, true);
      expect_op(")");
      return out;
    }
    if (skip_op("[")) {
      std::vector<ExprPtr> items;
      while (!at_op("]")) {
        if (!items.empty()) {
          expect_op(",");
          if (at_op("]")) break;
        }
        items.push_back(expression());
      }
      expect_op("]");
      return node(ExprKind::kList, line, std::move(items));
    }
    if (skip_op("{")) {
      std::vector<ExprPtr> items;
      while (!at_op("}")) {
        if (!items.empty()) {
          expect_op(",");
          if (at_op("}")) break;
        }
        items.push_back(expression());
        expect_op(":");
        items.push_back(expression());
      }
      expect_op("}");
      return node(ExprKind::kDict, line, std::move(items));
    }
    fail_here(fmt::format("unexpected {}", describe(token)));
  }

  ExprPtr postfix(ExprPtr out) {
    while (true) {
      if (at_op(".") || at_op("[")) {
        out = subscript(std::move(out));
      } else if (at_op("(")) {
        out = call(std::move(out));
      } else {
        return out;
      }
    }
  }

  ExprPtr filters_and_tests(ExprPtr out) {
    while (true) {
      if (at_op("|")) {
        out = filters(std::move(out));
      } else if (at_word("is")) {
        out = test(std::move(out));
      } else if (at_op("(")) {
        out = call(std::move(out));
      } else {
        return out;
      }
    }
  }

  ExprPtr subscript(ExprPtr object) {
    const int line = current().line;
    if (skip_op(".")) {
      const Token& token = advance();
      if (token.kind == TokenKind::kName)
        return make(ExprKind::kGetattr, line, token.text, std::move(object));
      if (token.kind != TokenKind::kInteger) fail_syntax(token.line, "expected a name or a number after '.'");
      ExprPtr key = constant(token.line, Value::integer(token.integer));
      return make(ExprKind::kGetitem, line, {}, std::move(object), std::move(key));
    }
    expect_op("[");
    std::vector<ExprPtr> keys;
    while (!at_op("]")) {
      if (!keys.empty()) expect_op(",");
      keys.push_back(subscript_key());
    }
    expect_op("]");
    if (keys.size() == 1) {
      if (keys.front()->kind == ExprKind::kSlice && !keys.front()->items[0]) {
        keys.front()->items[0] = std::move(object);
        deepen(*keys.front(), keys.front()->items[0]);
        return std::move(keys.front());
      }
      return make(ExprKind::kGetitem, line, {}, std::move(object), std::move(keys.front()));
    }
    for (const ExprPtr& key : keys) {
      if (key->kind == ExprKind::kSlice && !key->items[0])
        fail_syntax(line, "a slice among several subscripts");
    }
    ExprPtr key = node(ExprKind::kTuple, line, std::move(keys));
    return make(ExprKind::kGetitem, line, {}, std::move(object), std::move(key));
  }

  /// An expression, or a slice whose object is still null.
  ExprPtr subscript_key() {
    const int line = current().line;
    ExprPtr start;
    if (!at_op(":")) {
      start = expression();
      if (!at_op(":")) return start;
    }
    expect_op(":");
    ExprPtr stop;
    ExprPtr step;
    if (!at_op(":") && !at_op("]") && !at_op(",")) stop = expression();
    if (skip_op(":") && !at_op("]") && !at_op(",")) step = expression();
    return make(ExprKind::kSlice, line, {}, ExprPtr(), std::move(start), std::move(stop), std::move(step));
  }

  std::unique_ptr<CallArguments> call_arguments() {
    const int line = current().line;
    auto out = std::make_unique<CallArguments>();
    const auto ensure = [&](bool ok) {
      if (!ok) fail_syntax(line, "invalid order of call arguments");
    };
    expect_op("(");
    bool first = true;
    while (!at_op(")")) {
      if (!first) {
        expect_op(",");
        if (at_op(")")) break;
      }
      first = false;
      if (skip_op("*")) {
        ensure(!out->star && !out->double_star);
        out->star = expression();
      } else if (skip_op("**")) {
        ensure(!out->double_star);
        out->double_star = expression();
      } else if (current().kind == TokenKind::kName && is_op(look(), "=")) {
        ensure(!out->double_star);
        std::string name = advance().text;
        advance();
        for (const auto& other : out->named) {
          if (other.first == name) fail_syntax(line, fmt::format("keyword argument repeated: {}", name));
        }
        ExprPtr value = expression();
        out->named.emplace_back(std::move(name), std::move(value));
      } else {
        ensure(!out->star && !out->double_star && out->named.empty());
        out->positional.push_back(expression());
      }
    }
    expect_op(")");
    return out;
  }

  ExprPtr call(ExprPtr callee) {
    const int line = current().line;
    auto arguments = call_arguments();
    ExprPtr out = make(ExprKind::kCall, line, {}, std::move(callee));
    give_arguments(*out, std::move(arguments));
    return out;
  }

  std::string dotted_name() {
    std::string name = expect_name();
    while (skip_op(".")) name.append(".").append(expect_name());
    return name;
  }

  ExprPtr one_filter(ExprPtr value) {
    const int line = current().line;
    std::string name = dotted_name();
    auto arguments = at_op("(") ? call_arguments() : std::make_unique<CallArguments>();
    ExprPtr out = make(ExprKind::kFilter, line, std::move(name), std::move(value));
    give_arguments(*out, std::move(arguments));
    return out;
  }

  ExprPtr filters(ExprPtr value) {
    while (skip_op("|")) value = one_filter(std::move(value));
    return value;
  }

  ExprPtr test(ExprPtr value) {
    const int line = advance().line;
    const bool negated = skip_word("not");
    std::string name = dotted_name();
    auto arguments = std::make_unique<CallArguments>();
    const TokenKind kind = current().kind;
    if (at_op("(")) {
      arguments = call_arguments();
    } else if ((kind == TokenKind::kName || kind == TokenKind::kString || kind == TokenKind::kInteger ||
                kind == TokenKind::kFloat || at_op("[") || at_op("{")) &&
               !at_any_word({"else", "or", "and"})) {
      if (at_word("is")) fail_here("tests cannot be chained with 'is'");
      arguments->positional.push_back(postfix(primary(false)));
    }
    ExprPtr out = make(ExprKind::kTest, line, std::move(name), std::move(value));
    give_arguments(*out, std::move(arguments));
    return negated ? make(ExprKind::kNot, line, {}, std::move(out)) : std::move(out);
  }

  std::vector<Token> tokens_;
  std::size_t position_ = 0;
  int blocks_ = 0;
  int recursion_ = 0;
};

}  // namespace

Template parse(std::string_view source) { return Parser(source).run(); }

}  // namespace sabrewing::text::jinja
