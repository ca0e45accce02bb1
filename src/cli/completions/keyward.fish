# Completions of keyward for fish, printed by `keyward completions fish`.
# The program itself offers commands, options and the names that its gateway has.

function __keyward_complete
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    set -l program (string replace -r '^~' $HOME -- $words[1])
    command -q $program; or set program keyward
    for line in (command $program complete fish -- $words[2..-1] "$word" </dev/null 2>/dev/null)
        switch $line
            case :files
                set -l option (string match -r '^--[^=]*=' -- "$word")
                for path in (__fish_complete_path (string replace -r '^--[^=]*=' '' -- "$word"))
                    echo -- "$option$path"
                end
            case :commands
                __fish_complete_command
            case '*'
                echo -- $line
        end
    end
end

complete -c keyward -f -a '(__keyward_complete)'
