//! Symbolic modes of `--chmod`: `u=rwX,go=rX`. As BuildKit reads them, which is as setmode(3) of
//! the BSDs does; that differs from GNU's chmod(1) where neither says much: `o+t` changes nothing.

/// Set-user-id, set-group-id and the permissions of all.
const ALL: u16 = 0o6777;

/// Deleted when a directory goes, if it is not the owner's.
const STICKY: u16 = 0o1000;

/// A symbolic mode: what is done to a mode, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymbolicMode(Vec<Change>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Set(u16),
    Clear(u16),
    /// Set for directories and for what somebody may execute before any change.
    SetIfExecutable(u16),
    /// The permissions of one class, `from` the right in bits, become, or change, those of others.
    Copy {
        from: u16,
        to: u16,
        operator: char,
    },
}

impl SymbolicMode {
    /// Reads a mode: `[ugoa…][+-=][rwxXstugo…]…`, several with commas. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut changes = Vec::new();
        for clause in text.split(',') {
            let start = clause.find(['+', '-', '='])?;
            let (who, mut rest) = clause.split_at(start);
            let classes = who
                .chars()
                .map(class)
                .try_fold(0, |all, one| Some(all | one?))?;
            while let Some(operator) = rest.chars().next() {
                let what = &rest[1..];
                let end = what.find(['+', '-', '=']).unwrap_or(what.len());
                Operation::new(classes, operator).read(&what[..end], &mut changes)?;
                rest = &what[end..];
            }
        }
        Some(SymbolicMode(changes))
    }

    /// The mode after the change of `before`, of which the lowest twelve bits count.
    pub fn apply(&self, before: u16, is_directory: bool) -> u16 {
        let is_executable = is_directory || before & 0o111 != 0;
        self.0.iter().fold(before, |mode, change| match *change {
            Change::Set(bits) => mode | bits,
            Change::Clear(bits) => mode & !bits,
            Change::SetIfExecutable(bits) if is_executable => mode | bits,
            Change::SetIfExecutable(_) => mode,
            Change::Copy { from, to, operator } => {
                let copied = (((mode >> from) & 7) * 0o111) & to;
                match operator {
                    '+' => mode | copied,
                    '-' => mode & !copied,
                    _ => (mode & !(0o777 & to)) | copied,
                }
            }
        })
    }
}

/// What a class of users covers.
fn class(letter: char) -> Option<u16> {
    Some(match letter {
        'u' => 0o4700,
        'g' => 0o2070,
        'o' => 0o0007,
        'a' => ALL,
        _ => return None,
    })
}

/// One operator with what stands behind it.
struct Operation {
    operator: char,
    /// The classes that are named; 0 if none is, which means all.
    classes: u16,
    /// What was read and is no change yet.
    bits: u16,
    conditional: u16,
    /// `=` takes away what is not named, once.
    has_cleared: bool,
}

impl Operation {
    fn new(classes: u16, operator: char) -> Self {
        Operation {
            operator,
            classes,
            bits: 0,
            conditional: 0,
            has_cleared: operator != '=',
        }
    }

    fn read(mut self, what: &str, changes: &mut Vec<Change>) -> Option<()> {
        // Special bits are nothing that only others could have.
        let is_special = self.classes == 0 || self.classes & !0o007 != 0;
        for letter in what.chars() {
            match letter {
                'r' => self.bits |= 0o444,
                'w' => self.bits |= 0o222,
                'x' => self.bits |= 0o111,
                'X' if self.operator == '-' => self.bits |= 0o111,
                'X' => self.conditional |= 0o111,
                's' if is_special => self.bits |= 0o6000,
                't' if is_special => {
                    self.bits |= STICKY;
                    self.classes |= STICKY;
                }
                's' | 't' => {}
                'u' | 'g' | 'o' => {
                    if self.bits != 0 {
                        self.change(changes);
                    }
                    self.has_cleared = true;
                    self.change_if_executable(changes);
                    let from = match letter {
                        'u' => 6,
                        'g' => 3,
                        _ => 0,
                    };
                    let (to, operator) = (self.scope() & 0o777, self.operator);
                    changes.push(Change::Copy { from, to, operator });
                }
                _ => return None,
            }
        }
        if self.bits != 0 || !self.has_cleared {
            self.change(changes);
        }
        self.change_if_executable(changes);
        Some(())
    }

    fn scope(&self) -> u16 {
        match self.classes {
            0 => ALL,
            classes => classes,
        }
    }

    fn change(&mut self, changes: &mut Vec<Change>) {
        let bits = std::mem::take(&mut self.bits) & self.scope();
        match self.operator {
            '-' => changes.push(Change::Clear(bits)),
            '+' => changes.push(Change::Set(bits)),
            _ => changes.extend([Change::Clear(self.scope()), Change::Set(bits)]),
        }
        self.has_cleared = true;
    }

    fn change_if_executable(&mut self, changes: &mut Vec<Change>) {
        let bits = std::mem::take(&mut self.conditional) & self.scope();
        if bits != 0 {
            changes.push(Change::SetIfExecutable(bits));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbolic_modes_change_what_they_name() {
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
            ("=", 0o7777, false, 0o1000),
        ] {
            let mode = SymbolicMode::parse(text).unwrap();
            let found = mode.apply(before, is_directory);
            assert_eq!(found, after, "{text} of {before:o}: {found:o}");
        }
    }

    /// What BuildKit 0.32 makes of modes about which opinions differ.
    #[test]
    fn corners_are_as_in_buildkit() {
        for (text, before, is_directory, after) in [
            ("o+t", 0o640, false, 0o640),
            ("a-x,u+X", 0o755, false, 0o744),
            ("-X", 0o755, false, 0o644),
            ("g=X", 0o755, true, 0o715),
            ("u+rw,g+ug", 0o640, false, 0o660),
            ("o=u,g=o", 0o2750, true, 0o2777),
            ("u+ur+sx,u+,-u", 0o640, false, 0o4000),
            ("=tgu", 0o640, false, 0o1640),
            ("u=xrg-w", 0o4711, false, 0o111),
            ("ao=og", 0o1642, false, 0o1222),
            ("-,u+t=s", 0o640, false, 0o5040),
        ] {
            let mode = SymbolicMode::parse(text).unwrap();
            let found = mode.apply(before, is_directory);
            assert_eq!(found, after, "{text} of {before:o}: {found:o}");
        }
    }

    #[test]
    fn anything_else_is_no_symbolic_mode() {
        for text in [
            "", "u", "z+x", "u+q", "755x", "u+x,", ",u+x", "u+x,,g+x", "-1", "+755", "t", "é",
        ] {
            assert_eq!(SymbolicMode::parse(text), None, "{text}");
        }
    }
}
