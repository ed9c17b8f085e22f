//! Requests and replies: what is around a command.

use std::borrow::Cow;

use crate::error::Error;
use crate::json::{self, Node};

/// A request whose outside is in order. Whether the command exists and its arguments fit is for others to find.
#[derive(Debug, Clone, PartialEq)]
pub struct Request<'a> {
    /// Name of the command.
    pub execute: Cow<'a, str>,
    /// Its arguments: always an object, an empty one when none were sent.
    pub arguments: Node<'a>,
    /// What to send back with the answer.
    pub id: Option<Node<'a>>,
}

/// A message that is no request.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejected<'a> {
    /// What to send back with the error; known even then.
    pub id: Option<Node<'a>>,
    /// What is wrong.
    pub error: Error,
}

/// Takes a message apart.
///
/// With several faults the one that counts is: the type of `execute`, the type of `arguments`, the first unknown
/// member in the order sent, the lack of `execute`. (The C agent goes by the order of a hash table.)
///
/// # Errors
/// [`Rejected`] with the `id` if there was one.
pub fn parse<'a>(node: Node<'a>) -> Result<Request<'a>, Rejected<'a>> {
    let Node::Dict(members) = node else {
        return Err(Rejected { id: None, error: Error::generic("QMP input must be a JSON object") });
    };
    let (mut execute, mut arguments, mut id, mut unexpected) = (None, None, None, None);
    for (key, value) in members {
        match key.as_ref() {
            "execute" => execute = Some(value),
            "arguments" => arguments = Some(value),
            "id" => id = Some(value),
            _ if unexpected.is_none() => unexpected = Some(key),
            _ => {}
        }
    }
    match checked(execute, arguments, unexpected) {
        Ok((execute, arguments)) => Ok(Request { execute, arguments, id }),
        Err(error) => Err(Rejected { id, error }),
    }
}

fn checked<'a>(
    execute: Option<Node<'a>>,
    arguments: Option<Node<'a>>,
    unexpected: Option<Cow<'a, str>>,
) -> Result<(Cow<'a, str>, Node<'a>), Error> {
    let execute = match execute {
        None => None,
        Some(Node::Str(name)) => Some(name),
        Some(_) => return Err(Error::generic("QMP input member 'execute' must be a string")),
    };
    let arguments = match arguments {
        None => Node::Dict(Vec::new()),
        Some(node @ Node::Dict(_)) => node,
        Some(_) => return Err(Error::generic("QMP input member 'arguments' must be an object")),
    };
    if let Some(name) = unexpected {
        return Err(Error::generic(format!("QMP input member '{name}' is unexpected")));
    }
    match execute {
        Some(execute) => Ok((execute, arguments)),
        None => Err(Error::generic("QMP input lacks member 'execute'")),
    }
}

/// Appends the line that answers a request: `{"return": …, "id": …}`. `write_value` appends the value in between, which
/// may be large and so is written where it belongs at once.
///
/// # Errors
/// That of `write_value`; nothing has been appended then.
pub fn success<E>(
    out: &mut Vec<u8>,
    id: Option<&Node<'_>>,
    write_value: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let before = out.len();
    out.extend_from_slice(b"{\"return\": ");
    if let Err(error) = write_value(out) {
        out.truncate(before);
        return Err(error);
    }
    if let Some(id) = id {
        out.extend_from_slice(b", \"id\": ");
        json::write_node(out, id);
    }
    out.extend_from_slice(b"}\n");
    Ok(())
}

/// Appends the line that refuses a request: `{"id": …, "error": {"class": …, "desc": …}}`.
pub fn failure(out: &mut Vec<u8>, error: &Error, id: Option<&Node<'_>>) {
    out.push(b'{');
    if let Some(id) = id {
        out.extend_from_slice(b"\"id\": ");
        json::write_node(out, id);
        out.extend_from_slice(b", ");
    }
    out.extend_from_slice(b"\"error\": {\"class\": ");
    json::write(out, error.class.name());
    out.extend_from_slice(b", \"desc\": ");
    json::write(out, error.desc.as_ref());
    out.extend_from_slice(b"}}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_value_before_the_id_and_an_error_the_id_before_the_error() {
        let id = Node::Str("a\u{e9}\"".into());
        fn write(out: &mut Vec<u8>, json: &[u8]) -> Result<(), &'static str> {
            out.extend_from_slice(json);
            Ok(())
        }
        let mut out = Vec::new();
        success(&mut out, None, |out| write(out, b"{}")).unwrap();
        success(&mut out, Some(&id), |out| write(out, b"[1]")).unwrap();
        let failed = success(&mut out, Some(&id), |out| write(out, b"[1").and(Err("half-way")));
        assert_eq!(failed, Err("half-way"));
        failure(&mut out, &Error::not_found("no \u{7f}"), Some(&Node::Number("1.0")));
        let expected = concat!(
            "{\"return\": {}}\n",
            "{\"return\": [1], \"id\": \"a\\u00E9\\\"\"}\n",
            "{\"id\": 1.0, \"error\": {\"class\": \"CommandNotFound\", \"desc\": \"no \\u007F\"}}\n",
        );
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }
}
