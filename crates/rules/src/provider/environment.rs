//! Which environment variables a provider may name, and which text it may put before the random part of a placeholder.
//! A person who may add a provider decides with them about the environment of `keyward run`, which every program there
//! has. So a name is one of a key or an account, and a text means nothing to a shell.

/// The last words of the variables that the built-in providers name. Variables that run code or load it have others:
/// `BASH_ENV`, `LD_PRELOAD`, `PATH`, `GIT_SSH_COMMAND`, `NODE_OPTIONS`, `PERL5OPT`, `PAGER`, `EDITOR`.
const ENDINGS: &str = "ACCOUNT BEDROCK EMAIL HANDLE ID IDENTIFIER KEY PASSPHRASE PASSWORD PAT PRIVATE PUBLIC PYPI SECRET \
                       SID TESTPYPI TOKEN USER USERNAME";

/// Names with one of these endings that programs act on: git(1), and R, which runs the profile
/// (<https://stat.ethz.ch/R-manual/R-devel/library/base/html/EnvVar.html>). No loader, shell, pager or editor has one.
const ACTED_ON: &str = "GIT_AUTHOR_EMAIL GIT_COMMITTER_EMAIL GIT_PROXY_SSL_KEY GIT_SSL_KEY R_ENVIRON_USER R_LIBS_USER \
                        R_MAKEVARS_USER R_PROFILE_USER R_USER";

/// The last words of variables that name a file. Variables of files that programs act on have others: `SSL_CERT_FILE`,
/// `GIT_INDEX_FILE`, `LD_LIBRARY_PATH`, `PIP_INDEX_URL`.
const FILE_ENDINGS: &str = "DATABASE URI";

/// The variable that frameworks find their database by.
const DATABASE_URL: &str = "DATABASE_URL";

/// Whether a provider may set the variable: `ACME_TOKEN`, and neither `TOKEN` nor `USER` alone.
pub fn may_set(name: &str) -> bool {
    ends_in(name, ENDINGS) && ACTED_ON.split(' ').all(|other| other != name)
}

/// Whether a provider may set the variable to what leads to a file: `DATABASE_URL`, `ACME_URI` or `ACME_DATABASE`.
pub fn may_name_file(name: &str) -> bool {
    name == DATABASE_URL || ends_in(name, FILE_ENDINGS)
}

fn ends_in(name: &str, endings: &str) -> bool {
    let is_name = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    let Some((first, last)) = name.rsplit_once('_') else { return false };
    first.starts_with(|c: char| c.is_ascii_uppercase())
        && name.bytes().all(is_name)
        && endings.split(' ').any(|ending| ending == last)
}

/// Whether the text means itself wherever a program or a shell reads it. Inner spaces exist: `FlyV1 fm2_…`.
pub fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:=& ".contains(&b))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::provider::Catalogue;

    const REFUSED: &[&str] = &[
        "BASH_ENV",
        "ENV",
        "IFS",
        "PS4",
        "PROMPT_COMMAND",
        "ZDOTDIR",
        "HOME",
        "PATH",
        "CDPATH",
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "LD_AUDIT",
        "DYLD_INSERT_LIBRARIES",
        "GCONV_PATH",
        "GIT_SSH_COMMAND",
        "GIT_SSH",
        "GIT_ASKPASS",
        "GIT_EDITOR",
        "GIT_PAGER",
        "GIT_EXEC_PATH",
        "GIT_CONFIG_KEY_0",
        "GIT_SSL_KEY",
        "GIT_AUTHOR_EMAIL",
        "SSH_ASKPASS",
        "SSH_AUTH_SOCK",
        "PYTHONPATH",
        "PYTHONSTARTUP",
        "NODE_OPTIONS",
        "NODE_PATH",
        "PERL5OPT",
        "PERL5DB",
        "RUBYOPT",
        "RUBYLIB",
        "JAVA_TOOL_OPTIONS",
        "R_PROFILE_USER",
        "R_LIBS_USER",
        "LESSKEY",
        "PAGER",
        "MANPAGER",
        "LESSOPEN",
        "EDITOR",
        "VISUAL",
        "BROWSER",
        "VIMINIT",
        "HTTPS_PROXY",
        "USER",
        "EMAIL",
        "USERNAME",
        "TOKEN",
        "_TOKEN",
        "1_TOKEN",
        "acme_token",
        "ACME_token",
        "ACME TOKEN",
        "A=B_TOKEN",
        "ACME_TOKEN\n",
        "ACME_MYTOKEN",
        "ACME_",
        "",
    ];

    #[test]
    fn no_variable_that_programs_act_on_may_be_set() {
        for &name in REFUSED {
            assert!(!may_set(name) && !may_name_file(name), "{name}");
        }
        assert!(may_set("ACME_TOKEN") && may_set("V0_API_KEY"));
        assert!(may_name_file("DATABASE_URL") && may_name_file("ACME_URI"));
        for name in ["SSL_CERT_FILE", "PIP_INDEX_URL", "URI", "DATABASE", "acme_URI"] {
            assert!(!may_name_file(name), "{name}");
        }
    }

    #[test]
    fn the_endings_are_those_of_the_variables_of_built_in_providers() {
        let catalogue = Catalogue::built_in();
        let auth = catalogue.all().flat_map(|provider| &provider.auth);
        let fields = auth.flat_map(|auth| auth.fields.iter().chain(&auth.minted));
        let names: BTreeSet<&String> = fields.flat_map(|field| &field.env).collect();
        assert!(names.len() > 500, "{}", names.len());
        let not_allowed: Vec<_> = names.iter().filter(|name| !may_set(name)).collect();
        assert!(not_allowed.is_empty(), "{not_allowed:?}");
        let used: BTreeSet<&str> = names.iter().filter_map(|it| it.rsplit('_').next()).collect();
        assert_eq!(used, ENDINGS.split(' ').collect());
        assert_eq!(used.len(), 19);
    }

    #[test]
    fn a_text_that_a_shell_would_read_is_not_plain() {
        for text in [
            "$(touch ran)",
            "touch ran;#",
            "`x`",
            "a|b",
            "a>b",
            "~",
            "*",
            "'",
            "\"",
            "\\",
            "ä",
            "a\n",
            "!",
        ] {
            assert!(!is_plain(text), "{text}");
        }
        for text in ["sv=2025-05-05&sig=", "sk.eyJ1Ijoia2V5d2FyZCJ9.", "FlyV1 fm2_", "xoxb-", "a:b"]
        {
            assert!(is_plain(text), "{text}");
        }
    }
}
