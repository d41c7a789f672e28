//! Directory contents: blocks of 4 KiB, each with its entry table in front and the names behind.
//! Names are in strict byte order over the whole directory, `.` and `..` among them, because the
//! kernel searches by bisection.

use crate::format::{BLOCK_SIZE, DIRENT_SIZE};

/// One name of a directory; `target` is whatever the caller needs to find the inode again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) target: u32,
}

/// All names of a directory in order: `children` are sorted, `.` and `..` are put in place.
pub(crate) fn with_dots<'a>(
    children: impl ExactSizeIterator<Item = Name<'a>>,
    this: u32,
    parent: u32,
) -> Vec<Name<'a>> {
    let mut names = Vec::with_capacity(children.len() + 2);
    let mut dots = [
        Name {
            name: b".",
            target: this,
        },
        Name {
            name: b"..",
            target: parent,
        },
    ]
    .into_iter()
    .peekable();
    for child in children {
        while let Some(dot) = dots.next_if(|dot| dot.name < child.name) {
            names.push(dot);
        }
        names.push(child);
    }
    names.extend(dots);
    names
}

/// Cuts `names` into the runs that share a block. A block is filled greedily.
pub(crate) fn blocks<'n, 'a>(names: &'n [Name<'a>]) -> impl Iterator<Item = &'n [Name<'a>]> {
    let mut rest = names;
    std::iter::from_fn(move || {
        let mut used = 0;
        let fitting = rest
            .iter()
            .take_while(|name| {
                used += DIRENT_SIZE + name.name.len();
                used <= BLOCK_SIZE
            })
            .count();
        // A name has at most 255 bytes, so at least one always fits.
        let (block, tail) = rest.split_at(fitting);
        rest = tail;
        (!block.is_empty()).then_some(block)
    })
}

/// Bytes that a directory with these names takes; all blocks but the last count in full.
pub(crate) fn size(names: &[Name<'_>]) -> usize {
    let mut size: usize = 0;
    for block in blocks(names) {
        size = size.next_multiple_of(BLOCK_SIZE) + block_size(block);
    }
    size
}

/// Bytes in use in one block.
fn block_size(block: &[Name<'_>]) -> usize {
    block.iter().map(|name| DIRENT_SIZE + name.name.len()).sum()
}

/// Writes one block to the start of `out`; `resolve` gives nid and file type of a target.
pub(crate) fn write_block(block: &[Name<'_>], out: &mut [u8], resolve: impl Fn(u32) -> (u64, u8)) {
    let mut name_offset = block.len() * DIRENT_SIZE;
    for (index, name) in block.iter().enumerate() {
        let (nid, file_type) = resolve(name.target);
        let entry = &mut out[index * DIRENT_SIZE..][..DIRENT_SIZE];
        entry[..8].copy_from_slice(&nid.to_le_bytes());
        // Offsets stay below BLOCK_SIZE.
        entry[8..10].copy_from_slice(&(name_offset as u16).to_le_bytes());
        entry[10] = file_type;
        out[name_offset..][..name.name.len()].copy_from_slice(name.name);
        name_offset += name.name.len();
    }
}

#[cfg(test)]
mod tests {
    use super::{Name, blocks, size, with_dots, write_block};

    fn names<'a>(children: &[&'a str]) -> Vec<Name<'a>> {
        let children = children.iter().map(|name| Name {
            name: name.as_bytes(),
            target: 7,
        });
        with_dots(children, 1, 2)
    }

    #[test]
    fn dots_stand_where_byte_order_puts_them() {
        let check = |children: &[&str], expect: &[&str]| {
            let all = names(children);
            let got: Vec<_> = all
                .iter()
                .map(|name| std::str::from_utf8(name.name).expect("ascii"))
                .collect();
            assert_eq!(got, expect);
        };
        check(&[], &[".", ".."]);
        check(&["a"], &[".", "..", "a"]);
        check(
            &["!", "-", "...", ".a", "0"],
            &["!", "-", ".", "..", "...", ".a", "0"],
        );
        check(&["!"], &["!", ".", ".."]);
    }

    #[test]
    fn a_block_is_filled_to_its_last_byte() {
        // 27 bytes for the dots, then 4069 = 15 x 267 + 64.
        let mut children: Vec<String> = (0..15).map(|n| format!("{n:0255}")).collect();
        children.push("x".repeat(64 - 12));
        let borrowed: Vec<&str> = children.iter().map(String::as_str).collect();
        assert_eq!(size(&names(&borrowed)), 4096);
        assert_eq!(blocks(&names(&borrowed)).count(), 1);
        children.push("y".into());
        let borrowed: Vec<&str> = children.iter().map(String::as_str).collect();
        assert_eq!(size(&names(&borrowed)), 4096 + 13);
        assert_eq!(blocks(&names(&borrowed)).count(), 2);
    }

    #[test]
    fn a_block_is_a_table_followed_by_names() {
        let all = names(&["ab"]);
        let mut out = vec![0; size(&all)];
        write_block(&all, &mut out, |target| {
            (u64::from(target) * 16, target as u8)
        });
        let mut expect = Vec::new();
        expect.extend_from_slice(&[16, 0, 0, 0, 0, 0, 0, 0, 36, 0, 1, 0]);
        expect.extend_from_slice(&[32, 0, 0, 0, 0, 0, 0, 0, 37, 0, 2, 0]);
        expect.extend_from_slice(&[112, 0, 0, 0, 0, 0, 0, 0, 39, 0, 7, 0]);
        expect.extend_from_slice(b"...ab");
        assert_eq!(out, expect);
    }
}
