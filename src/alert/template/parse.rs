//! From pieces to a tree. Everything that can be known without an alert is checked here: names, numbers
//! of arguments, and that each `if` has its `end`.

use std::borrow::Cow;

use super::function::Function;
use super::lex::{self, Piece, Token, TokenKind};
use super::value::Value;
use super::{DEPTH_MAX, Error};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Text(String),
    Print(Pipeline),
    If {
        /// `if` and each `else if`.
        branches: Vec<(Pipeline, Vec<Node>)>,
        otherwise: Vec<Node>,
    },
}

/// Commands, each of which gets what the one before it answered as its last argument.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pipeline(pub(super) Vec<Command>);

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Command {
    Operand(Operand),
    Call(Function, Vec<Operand>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operand {
    Literal(Value<'static>),
    Labels,
    ExternalLabels,
    Value,
    ExternalUrl,
    /// A call without arguments.
    Call(Function),
    Pipeline(Pipeline),
    /// One label of what the operand is.
    Field(Box<Operand>, String),
}

pub(super) fn parse(text: &str) -> Result<Vec<Node>, Error> {
    let pieces = lex::pieces(text)?;
    let mut parser = Parser {
        pieces: pieces.into_iter(),
        depth: 0,
    };
    let (nodes, ending) = parser.nodes()?;
    match ending {
        Ending::Text => Ok(nodes),
        Ending::End => Err(syntax("unexpected {{end}}")),
        Ending::Else | Ending::ElseIf(_) => Err(syntax("unexpected {{else}}")),
    }
}

/// What a list of nodes ended with.
enum Ending {
    Text,
    End,
    Else,
    ElseIf(Pipeline),
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    depth: usize,
}

impl Parser {
    fn nodes(&mut self) -> Result<(Vec<Node>, Ending), Error> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let tokens = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens) => tokens,
            };
            let keyword = match tokens.first().map(|token| &token.kind) {
                Some(TokenKind::Word(word)) => word.as_str(),
                Some(_) => "",
                None => return Err(syntax("an action is empty")),
            };
            let rest = tokens.get(1..).unwrap_or_default();
            match keyword {
                "end" if rest.is_empty() => return Ok((nodes, Ending::End)),
                "end" => return Err(syntax("unexpected text after \"end\"")),
                "else" => {
                    let ending = match rest.split_first() {
                        None => Ending::Else,
                        Some((token, condition))
                            if token.kind == TokenKind::Word("if".to_owned()) =>
                        {
                            Ending::ElseIf(pipeline(condition, "else if")?)
                        }
                        Some((token, _)) => {
                            return Err(match &token.kind {
                                TokenKind::Word(word) if word == "with" => {
                                    Error::Unsupported(word.clone())
                                }
                                _ => syntax("unexpected text after \"else\""),
                            });
                        }
                    };
                    return Ok((nodes, ending));
                }
                "if" => nodes.push(self.condition(pipeline(rest, "if")?)?),
                _ => nodes.push(Node::Print(pipeline(&tokens, "an action")?)),
            }
        }
        Ok((nodes, Ending::Text))
    }

    fn condition(&mut self, first: Pipeline) -> Result<Node, Error> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Error::TooDeep(DEPTH_MAX));
        }
        let mut branches = Vec::new();
        let mut condition = first;
        let otherwise = loop {
            let (nodes, ending) = self.nodes()?;
            branches.push((condition, nodes));
            match ending {
                Ending::Text => return Err(syntax("an \"if\" has no {{end}}")),
                Ending::End => break Vec::new(),
                Ending::ElseIf(next) => condition = next,
                Ending::Else => match self.nodes()? {
                    (nodes, Ending::End) => break nodes,
                    (_, Ending::Text) => return Err(syntax("an \"if\" has no {{end}}")),
                    (_, Ending::Else | Ending::ElseIf(_)) => {
                        return Err(syntax("an {{else}} after an {{else}}"));
                    }
                },
            }
        };
        self.depth -= 1;
        Ok(Node::If {
            branches,
            otherwise,
        })
    }
}

fn pipeline(tokens: &[Token], of: &str) -> Result<Pipeline, Error> {
    let mut reading = Reading {
        tokens,
        next: 0,
        depth: 0,
    };
    let pipeline = reading.pipeline(of)?;
    match reading.peek() {
        None => Ok(pipeline),
        Some(kind) => Err(unexpected(kind)),
    }
}

/// Reads the tokens of one action.
struct Reading<'a> {
    tokens: &'a [Token],
    next: usize,
    depth: usize,
}

impl<'a> Reading<'a> {
    fn peek(&self) -> Option<&'a TokenKind> {
        self.tokens.get(self.next).map(|token| &token.kind)
    }

    fn pipeline(&mut self, of: &str) -> Result<Pipeline, Error> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Error::TooDeep(DEPTH_MAX));
        }
        let mut commands = vec![self.command(0, of)?];
        while self.peek() == Some(&TokenKind::Pipe) {
            self.next += 1;
            commands.push(self.command(1, "a pipe")?);
        }
        self.depth -= 1;
        Ok(Pipeline(commands))
    }

    /// A command that gets so many arguments from a pipe.
    fn command(&mut self, piped: usize, of: &str) -> Result<Command, Error> {
        let function = match self.peek() {
            None | Some(TokenKind::Pipe | TokenKind::Close) => {
                return Err(syntax(&format!("a value is missing in {of}")));
            }
            Some(TokenKind::Word(word)) if !is_constant(word) => Some(Function::find(word)?),
            Some(_) => None,
        };
        let Some(function) = function else {
            let operand = self.operand()?;
            if piped > 0 {
                return Err(syntax("what follows a pipe is not a function"));
            }
            return match self.peek() {
                None | Some(TokenKind::Pipe | TokenKind::Close) => Ok(Command::Operand(operand)),
                Some(TokenKind::Assign(_)) => Err(unexpected(&TokenKind::Assign("="))),
                Some(_) => Err(syntax("a value that is not a function has arguments")),
            };
        };
        self.next += 1;
        let mut args = Vec::new();
        while !matches!(self.peek(), None | Some(TokenKind::Pipe | TokenKind::Close)) {
            args.push(self.operand()?);
        }
        function.check_arity(args.len() + piped)?;
        Ok(Command::Call(function, args))
    }

    fn operand(&mut self) -> Result<Operand, Error> {
        let Some(kind) = self.peek() else {
            return Err(syntax("a value is missing"));
        };
        self.next += 1;
        let mut operand = match kind {
            TokenKind::Text(text) => Operand::Literal(Value::Text(Cow::Owned(text.clone()))),
            TokenKind::Int(int) => Operand::Literal(Value::Int(*int)),
            TokenKind::Float(float) => Operand::Literal(Value::Float(*float)),
            TokenKind::Word(word) if is_constant(word) => {
                Operand::Literal(Value::Bool(word == "true"))
            }
            TokenKind::Word(word) => {
                let function = Function::find(word)?;
                function.check_arity(0)?;
                Operand::Call(function)
            }
            TokenKind::Field(field) => of_alert(field)?,
            TokenKind::Dot => return Err(Error::Unsupported(".".to_owned())),
            TokenKind::Variable(name) => match name.as_str() {
                "$labels" => Operand::Labels,
                "$externalLabels" => Operand::ExternalLabels,
                "$value" => Operand::Value,
                "$externalURL" => Operand::ExternalUrl,
                "$" => match self.adjacent_field() {
                    Some(field) => of_alert(&field)?,
                    None => return Err(Error::Unsupported("$".to_owned())),
                },
                _ if matches!(self.peek(), Some(TokenKind::Assign(_))) => {
                    return Err(Error::Unsupported(format!("{name} :=")));
                }
                _ => return Err(Error::UnknownVariable(name.clone())),
            },
            TokenKind::Open => {
                let inner = self.pipeline("parentheses")?;
                if self.peek() != Some(&TokenKind::Close) {
                    return Err(syntax("a \"(\" has no \")\""));
                }
                self.next += 1;
                Operand::Pipeline(inner)
            }
            TokenKind::Pipe | TokenKind::Close | TokenKind::Assign(_) => {
                return Err(unexpected(kind));
            }
        };
        let mut depth = 0;
        while let Some(field) = self.adjacent_field() {
            depth += 1;
            if depth > DEPTH_MAX {
                return Err(Error::TooDeep(DEPTH_MAX));
            }
            operand = Operand::Field(Box::new(operand), field);
        }
        Ok(operand)
    }

    /// The field right behind what was read, which is one of it.
    fn adjacent_field(&mut self) -> Option<String> {
        let token = self.tokens.get(self.next)?;
        let TokenKind::Field(field) = &token.kind else {
            return None;
        };
        if token.is_apart {
            return None;
        }
        self.next += 1;
        Some(field.clone())
    }
}

/// What the data of an alert has by a name.
fn of_alert(field: &str) -> Result<Operand, Error> {
    match field {
        "Labels" => Ok(Operand::Labels),
        "ExternalLabels" => Ok(Operand::ExternalLabels),
        "Value" => Ok(Operand::Value),
        "ExternalURL" => Ok(Operand::ExternalUrl),
        other => Err(syntax(&format!("there is no .{other} of an alert"))),
    }
}

fn is_constant(word: &str) -> bool {
    matches!(word, "true" | "false")
}

fn unexpected(kind: &TokenKind) -> Error {
    match kind {
        TokenKind::Assign(sign) => Error::Unsupported((*sign).to_owned()),
        TokenKind::Close => syntax("unexpected \")\""),
        _ => syntax("unexpected text in an action"),
    }
}

fn syntax(reason: &str) -> Error {
    Error::Syntax(reason.to_owned())
}
