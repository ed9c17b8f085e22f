//! An array whose items are made one by one.

use serde::ser::Serialize;

use super::write::write;

/// Appends an array item by item, so that it is nowhere held whole beside its text.
#[derive(Debug)]
pub struct ListWriter<'o> {
    out: &'o mut Vec<u8>,
    is_empty: bool,
}

impl<'o> ListWriter<'o> {
    /// An array without items. It has to be [finished](Self::finish).
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        out.push(b'[');
        ListWriter { out, is_empty: true }
    }

    /// Appends one item, as [`write()`] does.
    pub fn item<T: Serialize + ?Sized>(&mut self, value: &T) {
        if !std::mem::replace(&mut self.is_empty, false) {
            self.out.extend_from_slice(b", ");
        }
        write(self.out, value);
    }

    /// Closes it.
    pub fn finish(self) {
        self.out.push(b']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_item_by_item_is_what_a_whole_list_is() {
        for items in [vec![], vec!["a"], vec!["a", "b\"", ""]] {
            let (mut one_by_one, mut whole) = (vec![b'x'], vec![b'x']);
            let mut list = ListWriter::new(&mut one_by_one);
            items.iter().for_each(|item| list.item(item));
            list.finish();
            write(&mut whole, &items);
            assert_eq!(one_by_one, whole);
        }
    }
}
