//! Sparse files: which pieces of a file are in the tar, everything between them being zeros.

use super::header::{GNU_SPARSE_PIECE, number};

/// Some bytes of a sparse file that are in the tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Where they stand in the file.
    pub(crate) offset: u64,
    /// How many there are.
    pub(crate) length: u64,
}

/// The pieces of one file: sorted, apart from each other, within the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Map {
    pieces: Vec<Piece>,
    size: u64,
}

impl Map {
    /// Checks that the pieces are in order and that `stored` bytes of the tar are just theirs.
    pub(crate) fn new(pieces: Vec<Piece>, size: u64, stored: u64) -> Result<Self, &'static str> {
        let (mut end, mut sum) = (0, 0);
        for piece in &pieces {
            if piece.offset < end {
                return Err("the pieces of its sparse file overlap");
            }
            end = piece
                .offset
                .checked_add(piece.length)
                .filter(|end| *end <= size)
                .ok_or("a piece of its sparse file lies outside of the file")?;
            sum += piece.length;
        }
        if sum != stored {
            return Err("the pieces of its sparse file do not add up to what is stored");
        }
        Ok(Map {
            pieces: pieces
                .into_iter()
                .filter(|piece| piece.length > 0)
                .collect(),
            size,
        })
    }

    /// How many bytes of the file are in no piece.
    pub(crate) fn holes(&self) -> u64 {
        self.size - self.pieces.iter().map(|piece| piece.length).sum::<u64>()
    }

    /// What stands in the file from its start to its end.
    pub(crate) fn runs(self) -> impl Iterator<Item = Run> + use<> {
        let mut position = 0;
        let end = Piece {
            offset: self.size,
            length: 0,
        };
        self.pieces.into_iter().chain([end]).flat_map(move |piece| {
            let hole = piece.offset - position;
            position = piece.offset + piece.length;
            [Run::Hole(hole), Run::Stored(piece.length)]
        })
    }
}

/// A stretch of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    /// So many zeros.
    Hole(u64),
    /// So many bytes from the tar.
    Stored(u64),
}

/// Reads pieces as GNU headers hold them: offset and length, 12 bytes each; an unused slot has
/// length and offset 0 or an empty field.
pub(crate) fn read_gnu_pieces(field: &[u8], pieces: &mut Vec<Piece>) -> Result<(), &'static str> {
    for slot in field.chunks_exact(GNU_SPARSE_PIECE) {
        // As Go and GNU tar: the first slot that was not written ends the list.
        if slot[0] == 0 || slot[12] == 0 {
            break;
        }
        let field = |field: &[u8]| number(field).and_then(|number| u64::try_from(number).ok());
        let (offset, length) = (field(&slot[..12]), field(&slot[12..]));
        match (offset, length) {
            (Some(offset), Some(length)) => pieces.push(Piece { offset, length }),
            _ => return Err("a piece of its sparse file is not a number"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pieces: &[(u64, u64)], size: u64, stored: u64) -> Result<Map, &'static str> {
        let piece = |(offset, length): &(u64, u64)| Piece {
            offset: *offset,
            length: *length,
        };
        Map::new(pieces.iter().map(piece).collect(), size, stored)
    }

    #[test]
    fn runs_cover_the_file_without_gap() {
        let map = map(&[(2, 3), (5, 0), (5, 1), (10, 0)], 10, 4).unwrap();
        assert_eq!(map.holes(), 6);
        let runs = map
            .runs()
            .filter(|run| !matches!(run, Run::Hole(0) | Run::Stored(0)));
        let expected = [Run::Hole(2), Run::Stored(3), Run::Stored(1), Run::Hole(4)];
        assert_eq!(runs.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_map_that_lies_is_refused() {
        for (pieces, size, stored) in [
            (&[(0, 5), (4, 1)][..], 10, 6),
            (&[(5, 1), (0, 1)], 10, 2),
            (&[(8, 3)], 10, 3),
            (&[(u64::MAX, 1)], u64::MAX, 1),
            (&[(u64::MAX, u64::MAX)], u64::MAX, 1),
            (&[(0, 5)], 10, 4),
            (&[(0, 5)], 10, 6),
            (&[], 10, 1),
        ] {
            assert!(
                map(pieces, size, stored).is_err(),
                "{pieces:?} {size} {stored}"
            );
        }
    }
}
