//! From tree to text, for one alert.

use std::borrow::Cow;

use super::function::Function;
use super::parse::{Command, Node, Operand, Pipeline};
use super::value::Value;
use super::{Data, Error, OUTPUT_BYTES_MAX};
use crate::model::Labels;

pub(super) fn expand(nodes: &[Node], data: Data<'_>) -> Result<String, Error> {
    let mut out = String::new();
    write(nodes, data, &mut out)?;
    Ok(out)
}

fn write(nodes: &[Node], data: Data<'_>, out: &mut String) -> Result<(), Error> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Print(pipeline) => out.push_str(&evaluate(pipeline, data)?.print()),
            Node::If {
                branches,
                otherwise,
            } => {
                let mut taken = otherwise;
                for (condition, nodes) in branches {
                    if evaluate(condition, data)?.is_true() {
                        taken = nodes;
                        break;
                    }
                }
                write(taken, data, out)?;
            }
        }
        if out.len() > OUTPUT_BYTES_MAX {
            return Err(Error::TooLong(OUTPUT_BYTES_MAX));
        }
    }
    Ok(())
}

/// Refuses what goes wrong for every alert: values whose kinds do not go together, in any branch.
pub(super) fn check_kinds(nodes: &[Node]) -> Result<(), Error> {
    let labels = Labels::empty();
    let data = Data {
        labels: &labels,
        value: 1.0,
        external_url: "",
    };
    let check = |pipeline: &Pipeline| match evaluate(pipeline, data) {
        Err(error @ (Error::Kinds(_) | Error::Unsupported(_) | Error::Syntax(_))) => Err(error),
        // Other values may go through.
        Ok(_) | Err(_) => Ok(()),
    };
    for node in nodes {
        match node {
            Node::Text(_) => {}
            Node::Print(pipeline) => check(pipeline)?,
            Node::If {
                branches,
                otherwise,
            } => {
                for (condition, nodes) in branches {
                    check(condition)?;
                    check_kinds(nodes)?;
                }
                check_kinds(otherwise)?;
            }
        }
    }
    Ok(())
}

fn evaluate<'a>(pipeline: &'a Pipeline, data: Data<'a>) -> Result<Value<'a>, Error> {
    let mut piped = None;
    for command in &pipeline.0 {
        piped = Some(match command {
            Command::Operand(operand) => resolve(operand, data)?,
            Command::Call(function, args) => call(*function, args, piped, data)?,
        });
    }
    Ok(piped.expect("a pipeline has at least one command"))
}

fn call<'a>(
    function: Function,
    args: &'a [Operand],
    piped: Option<Value<'a>>,
    data: Data<'a>,
) -> Result<Value<'a>, Error> {
    let mut values = Vec::with_capacity(args.len() + 1);
    for arg in args {
        let value = resolve(arg, data)?;
        // `and` and `or` do not look beyond the argument that decides.
        let decides = match function {
            Function::And => !value.is_true(),
            Function::Or => value.is_true(),
            _ => false,
        };
        if decides {
            return Ok(value);
        }
        values.push(value);
    }
    values.extend(piped);
    function.call(&values, data.external_url)
}

fn resolve<'a>(operand: &'a Operand, data: Data<'a>) -> Result<Value<'a>, Error> {
    Ok(match operand {
        Operand::Literal(value) => value.clone(),
        Operand::Labels => Value::Labels(Cow::Borrowed(data.labels)),
        // The appliance has none of its own: every label comes from where the sample did.
        Operand::ExternalLabels => Value::Labels(Cow::Owned(Labels::empty())),
        Operand::Value => Value::Float(data.value),
        Operand::ExternalUrl => Value::Text(Cow::Borrowed(data.external_url)),
        Operand::Call(function) => function.call(&[], data.external_url)?,
        Operand::Pipeline(pipeline) => evaluate(pipeline, data)?,
        Operand::Field(inner, field) => match resolve(inner, data)? {
            Value::Labels(labels) => Value::Text(Cow::Owned(labels.value(field).to_owned())),
            other => {
                return Err(Error::Kinds(format!("a {} has no .{field}", other.kind())));
            }
        },
    })
}
