//! Parts of lists: what is asked for and what is answered.

use crate::model::cursor::PageCursor;
use crate::storage::{Listed, Page};

/// Which part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Items at most.
    pub limit: usize,
    /// Where a former part ended.
    pub cursor: Option<PageCursor>,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// The length of the whole list.
    pub total: u64,
    /// Where the next part begins, if there is one.
    pub next: Option<PageCursor>,
}

impl PageRequest {
    /// What the store is asked: one more than is shown tells whether there is a next part.
    #[must_use]
    pub fn with_one_more(self) -> Page {
        Page { before: self.cursor.map(|cursor| cursor.before), limit: self.limit + 1 }
    }

    /// The part, of what the store answered to [`Self::with_one_more`].
    #[must_use]
    pub fn listing<T>(self, mut listed: Listed<T>) -> Listing<T> {
        let more = listed.items.len() > self.limit;
        listed.items.truncate(self.limit);
        let shown = self.cursor.map_or(0, |cursor| cursor.shown) + listed.items.len() as u64;
        let next = match listed.items.last() {
            Some((before, _)) if more => Some(PageCursor { before: *before, shown }),
            _ => None,
        };
        Listing { items: listed.items.into_iter().map(|(_, item)| item).collect(), total: listed.total, next }
    }
}

#[cfg(test)]
mod tests {
    use super::PageRequest;
    use crate::model::cursor::PageCursor;
    use crate::storage::Listed;

    #[test]
    fn a_next_part_is_told_only_where_there_is_one() {
        let request = PageRequest { limit: 2, cursor: None };
        let listed = |places: &[u64]| Listed {
            items: places.iter().map(|place| (*place, *place)).collect(),
            total: 3,
        };
        let first = request.listing(listed(&[9, 7, 5]));
        assert_eq!((first.items, first.next), (vec![9, 7], Some(PageCursor { before: 7, shown: 2 })));
        let last = PageRequest { limit: 2, cursor: first.next }.listing(listed(&[5]));
        assert_eq!((last.items, last.next), (vec![5], None));
    }
}
