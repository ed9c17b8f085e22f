//! Objects and arrays, member by member.

use serde::ser::{self, Serialize};

use super::{WriteError, Writer, plain_run};

/// An object or array that is being written.
pub(super) struct Members<'w> {
    out: &'w mut Vec<u8>,
    first: bool,
    close: &'static [u8],
}

impl<'w> Members<'w> {
    /// One whose opening bracket has been written.
    pub(super) fn new(out: &'w mut Vec<u8>, close: &'static [u8]) -> Self {
        Members { out, first: true, close }
    }

    fn separate(&mut self) {
        if !std::mem::replace(&mut self.first, false) {
            self.out.extend_from_slice(b", ");
        }
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), WriteError> {
        self.separate();
        value.serialize(&mut Writer { out: self.out })
    }

    /// `key` is the name of a member in our own types: nothing in it is ever escaped.
    ///
    /// Inlined, the key is put there in one or two steps of known length. That saves a third of the instructions for a
    /// list of routes, and costs 40 kB of program.
    #[inline(always)]
    pub(super) fn member<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), WriteError> {
        debug_assert_eq!(plain_run(key.as_bytes()), key.len());
        self.out.reserve(key.len() + ", \"\": ".len());
        self.out.extend_from_slice(if std::mem::replace(&mut self.first, false) { b"\"" } else { b", \"" });
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\": ");
        value.serialize(&mut Writer { out: self.out })
    }

    pub(super) fn finish(self) -> Result<(), WriteError> {
        self.out.extend_from_slice(self.close);
        Ok(())
    }
}

/// The traits of what has elements and no keys, which differ in the name of a method.
macro_rules! elements {
    ($($kind:ident::$method:ident),+) => {
        $(impl ser::$kind for Members<'_> {
            type Ok = ();
            type Error = WriteError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), WriteError> {
                self.element(value)
            }

            fn end(self) -> Result<(), WriteError> {
                self.finish()
            }
        })+
    };
}

elements!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

impl ser::SerializeMap for Members<'_> {
    type Ok = ();
    type Error = WriteError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), WriteError> {
        self.separate();
        let before = self.out.len();
        key.serialize(&mut Writer { out: self.out })?;
        // Only strings can be keys.
        if self.out.get(before) == Some(&b'"') { Ok(()) } else { Err(WriteError) }
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), WriteError> {
        self.out.extend_from_slice(b": ");
        value.serialize(&mut Writer { out: self.out })
    }

    fn end(self) -> Result<(), WriteError> {
        self.finish()
    }
}

impl ser::SerializeStruct for Members<'_> {
    type Ok = ();
    type Error = WriteError;

    #[inline(always)]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), WriteError> {
        self.member(key, value)
    }

    fn end(self) -> Result<(), WriteError> {
        self.finish()
    }
}

impl ser::SerializeStructVariant for Members<'_> {
    type Ok = ();
    type Error = WriteError;

    #[inline(always)]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), WriteError> {
        self.member(key, value)
    }

    fn end(self) -> Result<(), WriteError> {
        self.finish()
    }
}
