# Completions of keyward for bash, printed by `keyward completions bash`.
# The program itself offers commands, options and the names that its gateway has.

_keyward() {
    local line word=${COMP_WORDS[COMP_CWORD]} program=${COMP_WORDS[0]/#\~/$HOME}
    COMPREPLY=()
    # bash takes `--option=value` for three words.
    [[ $word == = ]] && word=
    type -P "$program" > /dev/null || program=keyward
    while IFS= read -r line; do
        case $line in
            :files)
                compopt -o filenames 2> /dev/null
                while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$word")
                ;;
            :commands)
                while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -c -- "$word")
                ;;
            *) COMPREPLY+=("${line%%$'\t'*}") ;;
        esac
    done < <("$program" complete bash -- "${COMP_WORDS[@]:1:COMP_CWORD}" < /dev/null 2> /dev/null)
}

complete -F _keyward keyward
