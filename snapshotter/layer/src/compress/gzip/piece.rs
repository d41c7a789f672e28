//! One piece of a gzip stream: which way of deflate suits it, and its blocks.
//!
//! Looking for repetitions is what deflate spends its time on, and it is in vain for contents that
//! are compressed already, for keys and for numbers. So a quick look comes first. What it finds
//! depends on the piece alone, so the stream stays the same on every machine: integers, no floats.

use std::io;

use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Status, Strategy};

/// How far back deflate can refer, in bytes.
const WINDOW_BYTES: usize = 32 * 1024;

/// Repetitions of so many bytes are counted. Shorter ones save little: where there are no longer
/// ones, a code for each byte does as well.
const REPEATED_BYTES: usize = 6;

/// A piece that repeats less than one in so many of its bytes is not searched.
const REPEATED_SHARE: usize = 32;

/// Positions that the quick look remembers, as a power of two.
const REMEMBERED_LOG: u32 = 14;

/// So long without a repetition, and the quick look takes larger steps until there is one.
const STRIDE_AFTER_BYTES: usize = 2048;

/// The larger step, in bytes. Odd: the records of most files are not.
const STRIDE_BYTES: usize = 3;

/// Bytes are spread evenly if any two are equal at most so many times in 256,000: then a code for
/// each saves less than one byte in 400.
const EQUAL_PAIRS_MAX: u128 = 1_014;

/// The odd 64-bit number next to 2^64 divided by the golden ratio (Knuth, TAOCP 3, 6.4).
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// What deflate does with a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Looks for repetitions.
    Search,
    /// A code for each byte, without a search.
    Codes,
    /// As it is.
    Store,
}

/// The deflate blocks of a piece that follows `before`. They end on a byte boundary, the last
/// one's with the end of the stream.
pub(super) fn compress(
    piece: &[u8],
    before: &[u8],
    level: i32,
    is_last: bool,
) -> io::Result<Vec<u8>> {
    let way = match level {
        0 => Way::Store,
        _ => way(piece),
    };
    let (level, strategy) = match way {
        Way::Search => (level, Strategy::Default),
        Way::Codes => (level, Strategy::HuffmanOnly),
        Way::Store => (0, Strategy::Default),
    };
    // A fresh state for each piece: what zlib-rs keeps over a reset changes which matches it
    // finds, so the stream would depend on which thread took which piece before.
    let mut deflate = Deflate::new_with_config(DeflateConfig {
        level,
        // Negative: neither the header nor the trailer of zlib.
        window_bits: -15,
        strategy,
        ..DeflateConfig::default()
    });
    let window = &before[before.len().saturating_sub(WINDOW_BYTES)..];
    if way == Way::Search && !window.is_empty() {
        deflate.set_dictionary(window).map_err(failed)?;
    }
    let flush = if is_last {
        DeflateFlush::Finish
    } else {
        DeflateFlush::SyncFlush
    };
    // Deflate adds five bytes to each 16 KiB that it cannot compress, and the flush a few more.
    let mut output = vec![0; piece.len() + piece.len() / 1024 + 64];
    loop {
        let (taken, made) = (deflate.total_in(), deflate.total_out());
        let (input, room) = (&piece[taken as usize..], &mut output[made as usize..]);
        let status = deflate.compress(input, room, flush).map_err(failed)?;
        let (taken, made) = (deflate.total_in() as usize, deflate.total_out() as usize);
        let is_complete = match status {
            Status::StreamEnd => true,
            // Room left over means that nothing was held back.
            _ => !is_last && taken == piece.len() && made < output.len(),
        };
        if is_complete {
            output.truncate(made);
            return Ok(output);
        }
        output.resize(output.len() + output.len() / 2, 0);
    }
}

fn failed(reason: zlib_rs::DeflateError) -> io::Error {
    io::Error::other(format!("deflate fails: {}", reason.as_str()))
}

fn way(piece: &[u8]) -> Way {
    if repeats(piece) {
        Way::Search
    } else if is_even(piece) {
        Way::Store
    } else {
        Way::Codes
    }
}

/// Whether enough of a piece stands in it before, near enough. Of most contents a few thousand
/// bytes tell.
fn repeats(piece: &[u8]) -> bool {
    let needed = piece.len() / REPEATED_SHARE;
    let word = |at: usize| {
        let bytes = piece.get(at..at + 8)?;
        let bytes = bytes.try_into().ok()?;
        Some(u64::from_le_bytes(bytes) << (64 - 8 * REPEATED_BYTES))
    };
    let mut places = vec![0_u32; 1 << REMEMBERED_LOG];
    let (mut found, mut at, mut last) = (0, 0, 0);
    while let Some(here) = word(at) {
        let slot = (here.wrapping_mul(SPREAD) >> (64 - REMEMBERED_LOG)) as usize;
        // A piece has less than 4 GiB.
        let before = std::mem::replace(&mut places[slot], at as u32) as usize;
        if before < at && at - before <= WINDOW_BYTES && word(before) == Some(here) {
            found += REPEATED_BYTES;
            if found >= needed {
                return true;
            }
            at += REPEATED_BYTES;
            last = at;
        } else if at - last < STRIDE_AFTER_BYTES {
            at += 1;
        } else {
            at += STRIDE_BYTES;
        }
    }
    // What is too short to tell costs little.
    piece.len() < 1024
}

/// Whether all bytes are about equally frequent.
fn is_even(piece: &[u8]) -> bool {
    // Several tables: equal bytes in a row would wait for each other.
    let mut counts = [[0_u32; 256]; 4];
    let mut fours = piece.chunks_exact(4);
    for four in &mut fours {
        for (table, byte) in counts.iter_mut().zip(four) {
            table[usize::from(*byte)] += 1;
        }
    }
    for byte in fours.remainder() {
        counts[0][usize::from(*byte)] += 1;
    }
    let pairs = (0..256).map(|byte| {
        let count: u64 = counts.iter().map(|table| u64::from(table[byte])).sum();
        u128::from(count) * u128::from(count)
    });
    let all = (piece.len() as u128).pow(2);
    pairs.sum::<u128>() * 256_000 <= all * EQUAL_PAIRS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes without a pattern; the same for the same seed.
    fn noise(count: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state.wrapping_mul(SPREAD) >> 56) as u8
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    fn text(count: usize) -> Vec<u8> {
        let words = noise(count, 7);
        let words = words
            .iter()
            .map(|byte| ["make ", "the ", "layer ", "of\n"][usize::from(byte & 3)]);
        let text: String = words.collect();
        text.into_bytes()[..count].to_vec()
    }

    #[test]
    fn a_way_is_found_for_each_kind_of_content() {
        let letters = |byte: u8| b'0' + (byte & 63);
        let hexadecimal: String = noise(100_000, 3)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let among = |count: usize| [noise(250_000 - count, 5), text(count)].concat();
        for (name, piece, expected) in [
            ("text", text(200_000), Way::Search),
            ("zeros", vec![0; 200_000], Way::Search),
            ("nothing", Vec::new(), Way::Search),
            ("a word", b"word".to_vec(), Way::Search),
            ("noise", noise(200_000, 1), Way::Store),
            (
                "letters",
                noise(200_000, 2).into_iter().map(letters).collect(),
                Way::Codes,
            ),
            ("hexadecimal", hexadecimal.into_bytes(), Way::Codes),
            ("text behind noise", among(30_000), Way::Search),
            ("one length, twice", noise(20_000, 6).repeat(3), Way::Search),
        ] {
            assert_eq!(way(&piece), expected, "{name}");
        }
    }

    #[test]
    fn what_is_not_searched_is_hardly_larger_than_if_it_were() {
        let letters: Vec<u8> = noise(262_144, 2)
            .iter()
            .map(|byte| b'0' + (byte & 63))
            .collect();
        for (name, piece, size_max) in [
            // Six bits each.
            ("letters", &letters, 262_144 * 76 / 100),
            ("noise", &noise(262_144, 1), 262_144 + 300),
        ] {
            let made = compress(piece, b"", 6, true).unwrap();
            assert!(made.len() <= size_max, "{name}: {}", made.len());
        }
    }
}
