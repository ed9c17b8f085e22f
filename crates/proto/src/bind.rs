//! Binding: turns a parsed object into typed arguments, with QAPI's complaints to the letter.
//!
//! Works through serde, so an argument type is a plain struct with `#[derive(Deserialize)]`. The method that serde
//! calls says which type is expected. Members are handed out in the order in which the struct declares them, so the
//! first complaint is about the first member that is wrong; what is left over afterwards is unexpected.
//!
//! # What argument types must keep to
//! - A member that may be absent is an `Option` with `#[serde(default)]`. `null` is not absence but a wrong type.
//! - No `flatten`, `untagged` or `alias`: they lose the order or the path.
//! - An alternate has a visitor of its own behind `deserialize_any`; its `expecting` is the name of the QAPI type.

use std::borrow::Cow;
use std::fmt::{self, Display};

use serde::de::value::StrDeserializer;
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor};

use crate::error::Error;
use crate::json::Node;

/// Turns `node` into a `T`. Strings without escapes are borrowed, not copied.
///
/// # Errors
/// `GenericError` with one of
/// `Parameter 'a[0].b' is missing`, `… is unexpected`, `… expects uint64`, `… does not accept value 'v'`,
/// `Invalid parameter type for 'a[0].b', expected: integer`, or the text that the type itself brings.
pub fn from_node<'a, T: Deserialize<'a>>(node: Node<'a>) -> Result<T, Error> {
    T::deserialize(Value(node)).map_err(|fault| fault.into_error())
}

/// What is wrong with a value.
#[derive(Debug)]
enum Fault {
    Missing,
    Unexpected,
    Type(Cow<'static, str>),
    /// Out of range for, or not even, an integer of this name.
    Integer(&'static str),
    Enum(String),
    Custom(String),
}

#[derive(Debug)]
enum Segment {
    Member(Cow<'static, str>),
    Index(usize),
}

/// A fault and where it is, innermost segment first. Boxed: it is passed up through every level.
#[derive(Debug)]
struct BindError(Box<(Fault, Vec<Segment>)>);

impl BindError {
    fn new(fault: Fault) -> Self {
        BindError(Box::new((fault, Vec::new())))
    }

    fn expected(name: impl Into<Cow<'static, str>>) -> Self {
        BindError::new(Fault::Type(name.into()))
    }

    fn below(mut self, segment: Segment) -> Self {
        self.0.1.push(segment);
        self
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for segment in self.0.1.iter().rev() {
            match segment {
                Segment::Member(name) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(name);
                }
                Segment::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }

    fn into_error(self) -> Error {
        let path = self.path();
        Error::generic(match self.0.0 {
            Fault::Missing => format!("Parameter '{path}' is missing"),
            Fault::Unexpected => format!("Parameter '{path}' is unexpected"),
            Fault::Type(expected) => format!("Invalid parameter type for '{path}', expected: {expected}"),
            Fault::Integer(name) => format!("Parameter '{path}' expects {name}"),
            Fault::Enum(value) => format!("Parameter '{path}' does not accept value '{value}'"),
            Fault::Custom(text) => text,
        })
    }
}

impl Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot bind '{}'", self.path())
    }
}

impl std::error::Error for BindError {}

impl de::Error for BindError {
    fn custom<T: Display>(text: T) -> Self {
        BindError::new(Fault::Custom(text.to_string()))
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        BindError::expected(expected.to_string())
    }

    fn unknown_variant(variant: &str, _: &'static [&'static str]) -> Self {
        BindError::new(Fault::Enum(variant.to_owned()))
    }

    fn unknown_field(field: &str, _: &'static [&'static str]) -> Self {
        BindError::new(Fault::Unexpected).below(Segment::Member(field.to_owned().into()))
    }

    fn missing_field(field: &'static str) -> Self {
        BindError::new(Fault::Missing).below(Segment::Member(field.into()))
    }
}

/// A value that is there.
struct Value<'a>(Node<'a>);

/// Integers narrower than 64 bits: of the wrong kind as their wide brother, out of range by their own name.
macro_rules! narrow {
    ($($deserialize:ident $visit:ident $type:ty, $wide:ident, $name:literal;)*) => {$(
        fn $deserialize<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, BindError> {
            match <$type>::try_from(self.$wide()?) {
                Ok(number) => visitor.$visit(number),
                Err(_) => Err(BindError::new(Fault::Integer($name))),
            }
        }
    )*};
}

impl Value<'_> {
    fn signed(&self) -> Result<i64, BindError> {
        self.0.as_i64().ok_or_else(|| BindError::expected("integer"))
    }

    fn unsigned(&self) -> Result<u64, BindError> {
        // Negative numbers wrap, for clients that print 64 bits as signed.
        let wrapped = || self.0.as_i64().map(|number| number as u64);
        self.0.as_u64().or_else(wrapped).ok_or_else(|| BindError::new(Fault::Integer("uint64")))
    }

    fn string<'a, V: Visitor<'a>>(text: Cow<'a, str>, visitor: V) -> Result<V::Value, BindError> {
        match text {
            Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
            Cow::Owned(text) => visitor.visit_string(text),
        }
    }
}

impl<'a> Deserializer<'a> for Value<'a> {
    type Error = BindError;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, BindError> {
        match self.0 {
            Node::Null => visitor.visit_unit(),
            Node::Bool(value) => visitor.visit_bool(value),
            Node::Number(text) => {
                if let Some(number) = self.0.as_i64() {
                    visitor.visit_i64(number)
                } else if let Some(number) = self.0.as_u64() {
                    visitor.visit_u64(number)
                } else {
                    // Beyond the range as well: whoever takes any kind of value is to see that it is a number.
                    visitor.visit_f64(text.parse().unwrap_or(f64::INFINITY))
                }
            }
            Node::Str(text) => Value::string(text, visitor),
            Node::List(items) => visit_list(items, visitor),
            Node::Dict(members) => visitor.visit_map(Sent { members: members.into_iter(), value: None }),
        }
    }

    fn deserialize_bool<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, BindError> {
        match self.0 {
            Node::Bool(value) => visitor.visit_bool(value),
            _ => Err(BindError::expected("boolean")),
        }
    }

    fn deserialize_i64<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, BindError> {
        visitor.visit_i64(self.signed()?)
    }

    fn deserialize_u64<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, BindError> {
        visitor.visit_u64(self.unsigned()?)
    }

    narrow! {
        deserialize_i8 visit_i8 i8, signed, "int8_t";
        deserialize_i16 visit_i16 i16, signed, "int16_t";
        deserialize_i32 visit_i32 i32, signed, "int32_t";
        deserialize_u8 visit_u8 u8, unsigned, "uint8_t";
        deserialize_u16 visit_u16 u16, unsigned, "uint16_t";
        deserialize_u32 visit_u32 u32, unsigned, "uint32_t";
    }

    fn deserialize_f32<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, BindError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, BindError> {
        match self.0.as_f64() {
            Some(number) => visitor.visit_f64(number),
            None => Err(BindError::expected("number")),
        }
    }

    fn deserialize_char<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, BindError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, BindError> {
        match self.0 {
            Node::Str(text) => Value::string(text, visitor),
            _ => Err(BindError::expected("string")),
        }
    }

    fn deserialize_string<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, BindError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, BindError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, BindError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, BindError> {
        visitor.visit_some(self)
    }

    fn deserialize_unit<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, BindError> {
        match self.0 {
            Node::Null => visitor.visit_unit(),
            _ => Err(BindError::expected("null")),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'a>>(self, _: &'static str, visitor: V) -> Result<V::Value, BindError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(self, _: &'static str, visitor: V) -> Result<V::Value, BindError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, BindError> {
        match self.0 {
            Node::List(items) => visit_list(items, visitor),
            _ => Err(BindError::expected("array")),
        }
    }

    fn deserialize_tuple<V: Visitor<'a>>(self, _: usize, visitor: V) -> Result<V::Value, BindError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, BindError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, BindError> {
        match self.0 {
            Node::Dict(members) => visitor.visit_map(Sent { members: members.into_iter(), value: None }),
            _ => Err(BindError::expected("object")),
        }
    }

    fn deserialize_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, BindError> {
        let Node::Dict(mut members) = self.0 else { return Err(BindError::expected("object")) };
        let value = visitor.visit_map(Declared { members: &mut members, fields: fields.iter(), current: "" })?;
        match members.into_iter().next() {
            None => Ok(value),
            Some((name, _)) => Err(BindError::new(Fault::Unexpected).below(Segment::Member(name.into_owned().into()))),
        }
    }

    fn deserialize_enum<V: Visitor<'a>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, BindError> {
        match self.0 {
            Node::Str(name) => visitor.visit_enum(name.as_ref().into_deserializer()),
            _ => Err(BindError::expected("string")),
        }
    }

    fn deserialize_identifier<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, BindError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, BindError> {
        visitor.visit_unit()
    }
}

/// A declared member that was not sent: fine for an `Option`, an error for anything else.
struct Absent;

impl<'de> Deserializer<'de> for Absent {
    type Error = BindError;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, BindError> {
        Err(BindError::new(Fault::Missing))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, BindError> {
        visitor.visit_none()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, BindError> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// Members in the order of their declaration; taken out of `members` one by one.
struct Declared<'m, 'a> {
    members: &'m mut Vec<(Cow<'a, str>, Node<'a>)>,
    fields: std::slice::Iter<'static, &'static str>,
    current: &'static str,
}

impl<'a> de::MapAccess<'a> for Declared<'_, 'a> {
    type Error = BindError;

    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, BindError> {
        let Some(field) = self.fields.next() else { return Ok(None) };
        self.current = field;
        let key: StrDeserializer<'_, BindError> = field.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<S::Value, BindError> {
        let value = match self.members.iter().position(|(name, _)| name == self.current) {
            // Not swap_remove: of several unexpected members the one sent first is reported.
            Some(index) => seed.deserialize(Value(self.members.remove(index).1)),
            None => seed.deserialize(Absent),
        };
        value.map_err(|error| error.below(Segment::Member(self.current.into())))
    }
}

/// Members in the order in which they were sent, for maps.
struct Sent<'a> {
    members: std::vec::IntoIter<(Cow<'a, str>, Node<'a>)>,
    value: Option<(String, Node<'a>)>,
}

impl<'a> de::MapAccess<'a> for Sent<'a> {
    type Error = BindError;

    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, BindError> {
        let Some((name, value)) = self.members.next() else { return Ok(None) };
        self.value = Some((name.clone().into_owned(), value));
        seed.deserialize(Value(Node::Str(name))).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<S::Value, BindError> {
        let (name, value) = self.value.take().unwrap_or((String::new(), Node::Null));
        seed.deserialize(Value(value)).map_err(|error| error.below(Segment::Member(name.into())))
    }
}

/// The elements of an array.
struct Items<'a> {
    items: std::vec::IntoIter<Node<'a>>,
    index: usize,
}

fn visit_list<'a, V: Visitor<'a>>(items: Vec<Node<'a>>, visitor: V) -> Result<V::Value, BindError> {
    visitor.visit_seq(Items { items: items.into_iter(), index: 0 })
}

impl<'a> de::SeqAccess<'a> for Items<'a> {
    type Error = BindError;

    fn next_element_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<Option<S::Value>, BindError> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        seed.deserialize(Value(item)).map(Some).map_err(|error| error.below(Segment::Index(index)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

#[cfg(test)]
mod tests;
