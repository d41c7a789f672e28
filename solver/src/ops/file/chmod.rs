//! Symbolic modes of `--chmod`, as chmod(1) reads them: `u=rwX,go=rX`.

use crate::error::{Error, Result};

/// The mode after the change of `mode`.
///
/// # Errors
/// [`Error::Unsupported`] for text that is no symbolic mode.
pub(super) fn apply(text: &str, mode: u16, is_directory: bool) -> Result<u16> {
    let invalid = || Error::Unsupported {
        what: format!("--chmod={text}: this mode"),
    };
    let mut mode = mode;
    for clause in text.split(',') {
        let operators = ['+', '-', '='];
        let (who, mut rest) = clause.split_at(clause.find(operators).ok_or_else(invalid)?);
        let classes = classes(who).ok_or_else(invalid)?;
        while let Some(operator) = rest.chars().next() {
            rest = &rest[1..];
            let end = rest.find(operators).unwrap_or(rest.len());
            let (what, after) = rest.split_at(end);
            rest = after;
            let bits = bits(what, mode, is_directory).ok_or_else(invalid)?;
            mode = change(mode, classes, operator, bits);
        }
    }
    Ok(mode)
}

/// Permissions of one class, and the special bits.
#[derive(Clone, Copy, Default)]
struct Bits {
    permissions: u16,
    set_id: bool,
    sticky: bool,
}

/// User, group, others.
fn classes(who: &str) -> Option<[bool; 3]> {
    let mut classes = [false; 3];
    for class in who.chars() {
        match class {
            'u' => classes[0] = true,
            'g' => classes[1] = true,
            'o' => classes[2] = true,
            'a' => classes = [true; 3],
            _ => return None,
        }
    }
    Some(if who.is_empty() { [true; 3] } else { classes })
}

fn bits(what: &str, mode: u16, is_directory: bool) -> Option<Bits> {
    let copied = |shift: u16| Bits {
        permissions: mode >> shift & 7,
        ..Bits::default()
    };
    match what {
        "u" => return Some(copied(6)),
        "g" => return Some(copied(3)),
        "o" => return Some(copied(0)),
        _ => {}
    }
    let mut bits = Bits::default();
    for letter in what.chars() {
        match letter {
            'r' => bits.permissions |= 4,
            'w' => bits.permissions |= 2,
            'x' => bits.permissions |= 1,
            // Execution where it makes sense: directories, and what somebody may execute already.
            'X' if is_directory || mode & 0o111 != 0 => bits.permissions |= 1,
            'X' => {}
            's' => bits.set_id = true,
            't' => bits.sticky = true,
            _ => return None,
        }
    }
    Some(bits)
}

fn change(mode: u16, classes: [bool; 3], operator: char, bits: Bits) -> u16 {
    let mut set = if bits.sticky { 0o1000 } else { 0 };
    let mut cleared = 0;
    for (index, _) in classes.iter().enumerate().filter(|(_, chosen)| **chosen) {
        let shift = 6 - 3 * index as u16;
        set |= bits.permissions << shift;
        cleared |= 7 << shift;
        let special = [0o4000, 0o2000, 0][index];
        set |= if bits.set_id { special } else { 0 };
        cleared |= special;
    }
    match operator {
        '+' => mode | set,
        '-' => mode & !set,
        _ => mode & !cleared | set,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbolic_modes_are_those_of_chmod() {
        for (text, before, is_directory, after) in [
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("g=u", 0o750, false, 0o770),
            ("u+s,o-rwx", 0o755, false, 0o4750),
            ("u+x-w", 0o644, false, 0o544),
            ("+t", 0o777, true, 0o1777),
        ] {
            assert_eq!(
                apply(text, before, is_directory).unwrap(),
                after,
                "{text} of {before:o}"
            );
        }
        for text in ["", "u", "z+x", "u+q", "755x"] {
            assert!(apply(text, 0o644, false).is_err(), "{text}");
        }
    }
}
