//! The constant data and the tables in it; the form is described in `layout`.

use std::cmp::Ordering;

use crate::layout::{LENGTH_BITS, binding, enumeration, field, message, method, value};

include!(concat!(env!("OUT_DIR"), "/schema.rs"));

/// An array, not a reference to one: a reference would be a pointer that the loader has to relocate.
static CELLS: [u8; CELL_COUNT * 4] = *include_bytes!(concat!(env!("OUT_DIR"), "/schema.bin"));

static TEXT: &str = include_str!(concat!(env!("OUT_DIR"), "/schema.txt"));

/// A run of rows that are `WIDTH` cells wide.
pub(super) struct Table<const WIDTH: usize> {
    pub(super) start: usize,
    pub(super) rows: usize,
}

impl<const WIDTH: usize> Table<WIDTH> {
    /// One cell.
    pub(super) fn cell(&self, row: u32, column: usize) -> u32 {
        cell(self.start + row as usize * WIDTH + column)
    }

    /// A whole row.
    pub(super) fn row(&self, row: u32) -> [u32; WIDTH] {
        std::array::from_fn(|column| self.cell(row, column))
    }

    /// The row that compares equal, in a table that is sorted so.
    pub(super) fn find(&self, compare: impl Fn([u32; WIDTH]) -> Ordering) -> Option<u32> {
        self.find_in(0, self.rows as u32, compare)
    }

    /// The row that compares equal among `count` rows that are sorted so.
    pub(super) fn find_in(
        &self,
        first: u32,
        count: u32,
        compare: impl Fn([u32; WIDTH]) -> Ordering,
    ) -> Option<u32> {
        let end = first + count;
        let row = self.partition(first, end, |row| compare(row).is_lt());
        (row < end && compare(self.row(row)).is_eq()).then_some(row)
    }

    /// The first row, of those from `low` to before `high`, that is not before what is looked for.
    pub(super) fn partition(
        &self,
        mut low: u32,
        mut high: u32,
        before: impl Fn([u32; WIDTH]) -> bool,
    ) -> u32 {
        while low < high {
            let middle = low.midpoint(high);
            if before(self.row(middle)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

fn cell(at: usize) -> u32 {
    u32::from_le_bytes(CELLS.as_chunks().0[at])
}

/// The text that a cell stands for.
pub(super) fn text(cell: u32) -> &'static str {
    let start = (cell >> LENGTH_BITS) as usize;
    let length = cell & ((1 << LENGTH_BITS) - 1);
    &TEXT[start..start + length as usize]
}
