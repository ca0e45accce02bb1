//! The texts of a service's file: units of systemd, and a property list of launchd. The unit of a system is that of
//! `deploy/keyward.service`.

/// The unit that packages install.
const SYSTEM_UNIT: &str = include_str!("../../../deploy/keyward.service");
/// Its command, which names the paths of a package.
const SYSTEM_START: &str =
    "/usr/local/bin/keyward serve --config /etc/keyward/keyward.yaml --data /var/lib/keyward";

pub(super) fn system_unit(words: &[String], credentials: &[(String, String)]) -> String {
    let start = command_line(words);
    let start = format!("ExecStart={start}\n{}", load_credentials(credentials));
    SYSTEM_UNIT.replace(&format!("ExecStart={SYSTEM_START}\n"), &start)
}

pub(super) fn user_unit(words: &[String], credentials: &[(String, String)]) -> String {
    format!(
        "# Written by `keyward service install`.\n\
         [Unit]\n\
         Description=Keyward, a proxy that gives agents API access without credentials\n\
         \n\
         [Service]\n\
         Type=notify\n\
         ExecReload=/bin/kill -HUP $MAINPID\n\
         ExecStart={}\n\
         {}\
         Restart=on-failure\n\
         RestartSec=2s\n\
         # Longer than `limits.shutdown_delay` and `limits.drain_timeout` together.\n\
         TimeoutStopSec=45s\n\
         UMask=0077\n\
         LimitNOFILE=65536\n\
         # Secrets never reach a core file.\n\
         LimitCORE=0\n\
         NoNewPrivileges=yes\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n",
        command_line(words),
        load_credentials(credentials),
    )
}

fn load_credentials(credentials: &[(String, String)]) -> String {
    // `%` begins a specifier (systemd.unit(5)).
    let line = |(name, file): &(String, String)| {
        format!("LoadCredential={name}:{}\n", file.replace('%', "%%"))
    };
    credentials.iter().map(line).collect()
}

/// Words as systemd splits them (systemd.service(5), command lines).
fn command_line(words: &[String]) -> String {
    let quoted = |word: &String| {
        let word = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
        let word = word.replace('$', "$$");
        let needs = word.is_empty() || word.contains([' ', '\t', '\'', '"', ';']);
        if needs { format!("\"{word}\"") } else { word }
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

pub(super) fn property_list(words: &[String]) -> String {
    let escaped =
        |word: &String| word.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let words: String =
        words.iter().map(|word| format!("    <string>{}</string>\n", escaped(word))).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \
         \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\">\n<dict>\n  \
         <key>Label</key>\n  <string>{LABEL}</string>\n  \
         <key>ProgramArguments</key>\n  <array>\n{words}  </array>\n  \
         <key>RunAtLoad</key>\n  <true/>\n  \
         <key>KeepAlive</key>\n  <dict>\n    <key>SuccessfulExit</key>\n    <false/>\n  </dict>\n  \
         <key>Umask</key>\n  <integer>63</integer>\n\
         </dict>\n</plist>\n"
    )
}

pub(super) const LABEL: &str = "dev.keyward.gateway";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_of_the_system_is_the_packaged_one_with_other_paths() {
        assert_eq!(SYSTEM_UNIT.matches(&format!("ExecStart={SYSTEM_START}\n")).count(), 1);
        let words = ["/opt/key ward/keyward", "serve", "--data", "/d$1%"].map(str::to_owned);
        let credential = ("master.key".to_owned(), "/etc/keyward/50%.key".to_owned());
        let unit = system_unit(&words, &[credential]);
        assert!(unit.contains(
            "\nExecStart=\"/opt/key ward/keyward\" serve --data /d$$1%%\n\
             LoadCredential=master.key:/etc/keyward/50%%.key\n"
        ));
        assert!(!unit.contains(SYSTEM_START));
        assert!(unit.contains("\nDynamicUser=yes\n"));
    }

    #[test]
    fn a_property_list_escapes_its_words() {
        let text = property_list(&["/a&b/<keyward>".to_owned()]);
        assert!(text.contains("<string>/a&amp;b/&lt;keyward&gt;</string>"), "{text}");
    }
}
