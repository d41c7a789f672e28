//! What a shell is given to read: it asks varve for every candidate, so that a script which was
//! installed once knows the commands of a later varve.

use clap_complete::Shell;

/// The hidden command that scripts call.
pub(crate) const COMMAND: &str = "__complete";

/// bash splits words at `:` and `=`, which stand in names of images and in values. So the words are
/// put together again as they were typed, and of a candidate only that is given back which stands
/// behind the last such character.
const BASH: &str = r#"# bash completion for varve
_varve() {
    local line=${COMP_LINE:0:COMP_POINT} words=() word trimmed i
    for ((i = 0; i <= COMP_CWORD; i++)); do
        trimmed=${line#"${line%%[![:space:]]*}"}
        word=${COMP_WORDS[i]}
        if ((i == COMP_CWORD)); then
            word=$trimmed
        fi
        if ((i > 0)) && [[ $trimmed == "$line" ]]; then
            words[${#words[@]}-1]+=$word
        else
            words+=("$word")
        fi
        line=${trimmed#"$word"}
    done
    local current=${words[${#words[@]}-1]} prefix IFS=$'\n'
    prefix=${current%"$2"}
    COMPREPLY=($(varve COMMAND bash -- "${words[@]}" 2> /dev/null))
    for i in "${!COMPREPLY[@]}"; do
        printf -v "COMPREPLY[$i]" %q "${COMPREPLY[$i]#"$prefix"}"
    done
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[/=:] ]]; then
        compopt -o nospace
    fi
}
complete -o nosort -F _varve varve
"#;

const ZSH: &str = r#"#compdef varve
# zsh completion for varve
_varve() {
    local -a lines more whole
    local line
    lines=("${(@f)$(varve COMMAND zsh -- "${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}" 2> /dev/null)}")
    for line in "${lines[@]}"; do
        case ${line%%$'\t'*} in
            '') ;;
            *[/=:]) more+=("${line/$'\t'/:}") ;;
            *) whole+=("${line/$'\t'/:}") ;;
        esac
    done
    local found=1
    (( $#whole )) && _describe -V varve whole && found=0
    (( $#more )) && _describe -V varve more -S '' && found=0
    return found
}
if [[ $funcstack[1] == _varve ]]; then
    _varve "$@"
else
    compdef _varve varve
fi
"#;

const FISH: &str = r#"# fish completion for varve
function __varve_complete
    set --local typed (commandline --current-process --tokenize --cut-at-cursor)
    set --local current (commandline --current-token --cut-at-cursor)
    varve COMMAND fish -- $typed "$current" 2> /dev/null
end
complete --command varve --no-files --keep-order --arguments '(__varve_complete)'
"#;

/// The script of a shell that can ask; `None` for others.
pub(crate) fn script(shell: Shell) -> Option<String> {
    let script = match shell {
        Shell::Bash => BASH,
        Shell::Zsh => ZSH,
        Shell::Fish => FISH,
        _ => return None,
    };
    Some(script.replace("COMMAND", COMMAND))
}

/// Candidates as the script of a shell reads them, one on a line.
pub(crate) fn lines(shell: Shell, candidates: &[(String, String)]) -> String {
    let one_line = |text: &str| text.replace(['\n', '\t', '\r'], " ");
    let mut lines = String::new();
    for (value, what) in candidates {
        if value.contains('\n') {
            continue;
        }
        match shell {
            // _describe parts value and description at a colon.
            Shell::Zsh => lines.push_str(&value.replace('\\', "\\\\").replace(':', "\\:")),
            _ => lines.push_str(value),
        }
        if shell != Shell::Bash && !what.is_empty() {
            lines.push('\t');
            lines.push_str(&one_line(what));
        }
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_written_as_each_shell_reads_them() {
        let candidates = [
            ("app:1".to_owned(), "a\tb".to_owned()),
            ("x\ny".into(), "".into()),
        ];
        assert_eq!(lines(Shell::Bash, &candidates), "app:1\n");
        assert_eq!(lines(Shell::Zsh, &candidates), "app\\:1\ta b\n");
        assert_eq!(lines(Shell::Fish, &candidates), "app:1\ta b\n");
    }
}
