//! The value that a script exports, if it is written out.

use std::{collections::BTreeSet, thread};

use oxc_allocator::Allocator;
use oxc_ast::ast::{
    ArrayExpressionElement, AssignmentOperator, AssignmentTarget, Expression, ObjectPropertyKind, Program, PropertyKey,
    PropertyKind, Statement, UnaryOperator,
};
use oxc_parser::Parser;
use oxc_span::{GetSpan as _, SourceType, Span};

use super::{RUNS, Result, bounds, fault};

/// The parser's stack, in bytes. The parser recurses once per operator, and a test shows that 64 KiB of any operator
/// fit. Memory that is not needed is never touched.
const STACK: usize = 64 << 20;

/// A value and its byte offset.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: usize,
    pub(super) value: Value,
}

/// A written-out value.
#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    Number(f64),
    List(Vec<Node>),
    Object(Vec<Property>),
    /// A value of a kind that declares nothing, in words.
    Other(&'static str),
}

/// A key of an object, and its value.
#[derive(Debug)]
pub(super) struct Property {
    pub(super) at: usize,
    pub(super) key: String,
    pub(super) node: Node,
}

impl Value {
    /// Its kind, in words.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Number(_) => "a number",
            Self::List(_) => "an array",
            Self::Object(_) => "an object",
            Self::Other(kind) => kind,
        }
    }
}

/// The value that the script assigns to `module.exports`.
///
/// # Errors
/// If the script isn't JavaScript, does anything else, or would have to be run.
pub(super) fn exports(text: &str) -> Result<Node> {
    bounds::check(text)?;
    thread::scope(|scope| {
        let parser = thread::Builder::new().name("javascript".to_owned()).stack_size(STACK);
        match parser.spawn_scoped(scope, || parse(text)).map(thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => fault(0, "the JavaScript parser gave up on this file: simplify it"),
            Err(error) => fault(0, format!("no thread for the JavaScript parser: {error}")),
        }
    })
}

fn parse(text: &str) -> Result<Node> {
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, text, SourceType::unambiguous()).parse();
    if let Some(error) = parsed.diagnostics.first() {
        let at = error.labels.first().map_or(0, |label| label.offset());
        return fault(at as usize, format!("not JavaScript: {}", error.message));
    }
    program(&parsed.program)
}

fn program(program: &Program<'_>) -> Result<Node> {
    let mut exports = None;
    for statement in &program.body {
        let at = start(statement.span());
        match statement {
            Statement::EmptyStatement(_) => {}
            Statement::ExpressionStatement(statement) => match exported(&statement.expression) {
                Some(_) if exports.is_some() => return fault(at, "`module.exports` is set twice: keep one"),
                Some(value) => exports = Some(node(value)?),
                None => return fault(at, format!("a statement other than `module.exports = …` {RUNS}")),
            },
            Statement::ExportDefaultDeclaration(_) | Statement::ExportNamedDeclaration(_) => {
                return fault(at, "this exports by `export`: write `module.exports = …`");
            }
            _ => return fault(at, format!("a statement other than `module.exports = …` {RUNS}")),
        }
    }
    exports.map_or_else(|| fault(0, "sets no `module.exports`: write `module.exports = { container: \"NAME\" }`"), Ok)
}

/// The assigned value, if the expression is `module.exports = …`.
fn exported<'a, 'b>(expression: &'b Expression<'a>) -> Option<&'b Expression<'a>> {
    let Expression::AssignmentExpression(assignment) = expression else { return None };
    let AssignmentTarget::StaticMemberExpression(target) = &assignment.left else { return None };
    let Expression::Identifier(object) = &target.object else { return None };
    (assignment.operator == AssignmentOperator::Assign && object.name == "module" && target.property.name == "exports")
        .then_some(&assignment.right)
}

/// Recurses as deeply as brackets are nested, which [`bounds`] limits.
fn node(expression: &Expression<'_>) -> Result<Node> {
    let at = start(expression.span());
    let value = match expression {
        Expression::ParenthesizedExpression(inner) => return node(&inner.expression),
        Expression::StringLiteral(text) if text.lone_surrogates => {
            return fault(at, "half of a surrogate pair is no text");
        }
        Expression::StringLiteral(text) => Value::Text(text.value.to_string()),
        Expression::TemplateLiteral(template) => match template.quasis.first() {
            Some(text) if template.expressions.is_empty() && !text.lone_surrogates => {
                Value::Text(text.value.cooked.map(|text| text.to_string()).unwrap_or_default())
            }
            _ => return fault(at, format!("this template {RUNS}")),
        },
        Expression::NumericLiteral(number) => Value::Number(number.value),
        Expression::UnaryExpression(unary) => match (unary.operator, &unary.argument) {
            (UnaryOperator::UnaryNegation, Expression::NumericLiteral(number)) => Value::Number(-number.value),
            _ => return fault(at, format!("an operator {RUNS}")),
        },
        Expression::BooleanLiteral(_) => Value::Other("a boolean"),
        Expression::NullLiteral(_) => Value::Other("null"),
        Expression::BigIntLiteral(_) => Value::Other("a big integer"),
        Expression::RegExpLiteral(_) => Value::Other("a regular expression"),
        Expression::ArrayExpression(array) => Value::List(array.elements.iter().map(element).collect::<Result<_>>()?),
        Expression::ObjectExpression(object) => {
            let (mut properties, mut keys) = (Vec::new(), BTreeSet::new());
            for each in &object.properties {
                let property = property(each)?;
                if !keys.insert(property.key.clone()) {
                    return fault(property.at, format!("the key {} is given twice", super::shown(&property.key)));
                }
                properties.push(property);
            }
            Value::Object(properties)
        }
        Expression::Identifier(name) => {
            return fault(at, format!("the name {} {RUNS}", super::shown(name.name.as_str())));
        }
        Expression::CallExpression(_) | Expression::NewExpression(_) | Expression::ImportExpression(_) => {
            return fault(at, format!("a call {RUNS}"));
        }
        Expression::ArrowFunctionExpression(_) | Expression::FunctionExpression(_) => {
            return fault(at, format!("a function {RUNS}"));
        }
        Expression::StaticMemberExpression(_)
        | Expression::ComputedMemberExpression(_)
        | Expression::ChainExpression(_) => {
            return fault(at, format!("a look-up {RUNS}"));
        }
        _ => return fault(at, format!("this expression {RUNS}")),
    };
    Ok(Node { at, value })
}

fn element(element: &ArrayExpressionElement<'_>) -> Result<Node> {
    let at = start(element.span());
    match element {
        ArrayExpressionElement::SpreadElement(_) => fault(at, format!("a spread (`...`) {RUNS}")),
        ArrayExpressionElement::Elision(_) => Ok(Node { at, value: Value::Other("nothing") }),
        other => other.as_expression().map_or_else(|| fault(at, format!("this {RUNS}")), node),
    }
}

fn property(kind: &ObjectPropertyKind<'_>) -> Result<Property> {
    let at = start(kind.span());
    let ObjectPropertyKind::ObjectProperty(property) = kind else {
        return fault(at, format!("a spread (`...`) {RUNS}"));
    };
    if property.computed {
        return fault(at, format!("a computed key {RUNS}"));
    }
    if property.method || property.kind != PropertyKind::Init {
        return fault(at, format!("a function {RUNS}"));
    }
    let key = match &property.key {
        PropertyKey::StaticIdentifier(name) => name.name.to_string(),
        PropertyKey::StringLiteral(text) if !text.lone_surrogates => text.value.to_string(),
        PropertyKey::NumericLiteral(number) => number.value.to_string(),
        _ => return fault(at, format!("a key that is neither a name nor a string {RUNS}")),
    };
    if key == "__proto__" {
        return fault(at, format!("`__proto__` {RUNS}"));
    }
    Ok(Property { at, key, node: node(&property.value)? })
}

const fn start(span: Span) -> usize {
    span.start as usize
}
