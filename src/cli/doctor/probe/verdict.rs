//! From what was seen of a program to what it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::SocketAddr;

use super::listener::Seen;
use super::remedy::{self, Trouble};
use super::seen::{Asked, Carries, Event, Foreign, Unshaken};
use super::stack::{Recognised, Stack};
use super::watch::{Process, Watch};
use crate::cli::doctor::report::Report;
use crate::cli::doctor::settings::{self, Places, When};

/// Of each kind; a browser has hundreds.
const TOLD_MAX: usize = 10;
/// Where APIs are. What is reached at other ports is more often a database.
const WEB_PORTS: &[u16] = &[80, 443, 8080, 8443];

/// Everything that is known of a program that has ended.
pub(super) struct Observed {
    pub(super) events: Seen,
    pub(super) watch: Watch,
    pub(super) program: Vec<OsString>,
    /// The agent's name.
    pub(super) agent: String,
}

/// What to do, and a reason where it is certain.
struct Cure {
    because: Option<String>,
    hint: String,
}

/// Judges it.
pub(super) fn judge(observed: &Observed, report: &mut Report) {
    let straight = past_the_proxy(observed, report);
    if observed.events.events.is_empty() {
        if !straight {
            no_connection(observed, report);
        }
    } else {
        foreign(observed, report);
        hosts(observed, report);
    }
    if let (false, Some(code @ 1..)) = (report.failed(), report.exit_code) {
        let hint = "the probe answers every request with 200 and a small JSON, which it may not \
                    have expected";
        report.warn("program", format!("the program ended with exit code {code}"), hint);
    }
}

/// Streams to other machines. Whether one of them is a failure.
fn past_the_proxy(observed: &Observed, report: &mut Report) -> bool {
    let away = observed.watch.straight.iter().filter(|(to, _)| !to.ip().is_loopback());
    for (to, pid) in away.take(TOLD_MAX) {
        let (name, cure) = (observed.name(*pid), observed.cure(Trouble::Direct, Some(*pid)));
        let mut message = format!("`{name}` connected straight to {to}, past the proxy");
        if let Some(because) = &cure.because {
            message.push_str(&format!(": {because}"));
        }
        match cure.because.is_some() || WEB_PORTS.contains(&to.port()) {
            true => report.fail("direct", message, cure.hint),
            false => {
                let hint = "fine when that is no API: databases and ssh do not use the proxy";
                report.warn("direct", message, hint);
            }
        }
    }
    report.failed()
}

/// Nothing came to the proxy, and nothing was seen to go elsewhere.
fn no_connection(observed: &Observed, report: &mut Report) {
    let cure = observed.cure(Trouble::Direct, None);
    let mut message = "it made no connection to the proxy".to_owned();
    let here: BTreeSet<&SocketAddr> = observed.watch.straight.keys().collect();
    if let Some(because) = &cure.because {
        message.push_str(&format!(": {because}"));
    } else if let Some(at) = here.first() {
        message.push_str(&format!(", but to {at}: what is on this machine is reached straight"));
    } else if observed.watch.looked_up {
        message.push_str(", but looked names up itself, as programs do that connect straight");
    }
    report.fail("proxy", message, cure.hint);
}

/// What came to the proxy's port and is no request to a proxy.
fn foreign(observed: &Observed, report: &mut Report) {
    let of = |kind| observed.events.events.contains(&Event::Foreign(kind));
    if of(Foreign::Tls) {
        let hint = "write the proxy's URL with http://: the way to the proxy itself is not TLS";
        report.fail("proxy", "it speaks TLS to the proxy", hint);
    }
    if of(Foreign::Socks) {
        let hint = "give the URL to its option for HTTP proxies: the gateway does not speak SOCKS";
        report.fail("proxy", "it speaks SOCKS to the proxy", hint);
    }
    if of(Foreign::Origin) || of(Foreign::Other) {
        let hint = "give the URL to its option for proxies, not to one for the API's address";
        report.fail("proxy", "it takes the proxy for the server of its API", hint);
    }
}

/// Each host, as far as one of its attempts came.
fn hosts(observed: &Observed, report: &mut Report) {
    let mut hosts: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in &observed.events.events {
        if let Some(host) = event.host() {
            hosts.entry(host).or_default().push(event);
        }
    }
    let asked = observed.first_requests().count();
    for (host, events) in hosts.iter().take(TOLD_MAX) {
        let request = events.iter().find_map(|event| match event {
            Event::Asked(asked) => Some(asked),
            _ => None,
        });
        match request {
            Some(request) => arrived(request, report),
            None => stopped(observed, (host, events), asked > 0, report),
        }
    }
    if hosts.len() > TOLD_MAX {
        report.ok("request", format!("{} more hosts were asked for", hosts.len() - TOLD_MAX));
    }
}

fn arrived(asked: &Asked, report: &mut Report) {
    let Asked { host, carries, .. } = asked;
    let message = match carries {
        Carries::Placeholder(place) => format!("a placeholder in {place}"),
        Carries::Nothing => "no credential; the gateway adds it".to_owned(),
        Carries::Own(field) => {
            let message = format!("{host}: it uses the proxy, but `{field}` has no placeholder");
            let hint = "where the gateway puts a credential it takes that one out; better not to \
                        give the program one";
            return report.warn("request", message, hint);
        }
    };
    report.ok("request", format!("{host}: it uses the proxy and trusts the CA; {message}"));
}

/// A host that no request arrived for.
fn stopped(
    observed: &Observed,
    (host, events): (&str, &[&Event]),
    others_arrived: bool,
    report: &mut Report,
) {
    let cure = |trouble| observed.cure(trouble, None);
    let because = |cure: &Cure| {
        cure.because.as_ref().map_or_else(String::new, |because| format!(": {because}"))
    };
    // The last one came as far as the program can.
    match events.last() {
        Some(Event::Unauthenticated { .. }) => {
            let cure = cure(Trouble::Unauthenticated);
            let message = format!("{host}: it sends no credentials to the proxy{}", because(&cure));
            report.fail("auth", message, cure.hint);
        }
        Some(Event::Unshaken { why: Unshaken::Untrusted { alert }, .. }) => {
            let cure = cure(Trouble::Untrusted);
            let how = alert.as_ref().map_or("it went away without a word", |alert| alert);
            let message = format!("{host}: it does not trust the CA ({how}){}", because(&cure));
            report.fail("tls", message, cure.hint);
        }
        Some(Event::Unshaken { why: Unshaken::Http2Only, .. }) => {
            let hint = "the gateway speaks it: run the program with `keyward run` and see";
            let message = format!("{host}: it speaks only HTTP/2, which this probe does not");
            report.warn("tls", message, hint);
        }
        Some(Event::Unshaken { why: Unshaken::Other(why), .. }) => {
            let hint = "the gateway takes TLS 1.2 and 1.3";
            report.fail("tls", format!("{host}: the TLS handshake failed: {why}"), hint);
        }
        Some(Event::NotTls { .. }) => {
            let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
            let hint = format!(
                "a rule lets it through without looking inside: `rules: [{{ name: other, hosts: \
                 [\"{name}\"], action: tunnel }}]`"
            );
            report.fail("tls", format!("{host}: what it sends through the proxy is no TLS"), hint);
        }
        Some(Event::Unused { .. } | Event::Shaken { .. }) => {
            let message = format!("{host}: it opened a stream and sent no request");
            let hint = "a program that checks the service's certificate itself (pins it) cannot \
                        use the gateway";
            match others_arrived {
                true => report.warn("request", message, hint),
                false => report.fail("request", message, hint),
            }
        }
        Some(Event::Foreign(_) | Event::Asked(_)) | None => {}
    }
}

impl Observed {
    /// The first request to each host.
    pub(super) fn first_requests(&self) -> impl Iterator<Item = &Asked> {
        let mut hosts = BTreeSet::new();
        self.events.events.iter().filter_map(move |event| match event {
            Event::Asked(asked) if hosts.insert(&asked.host) => Some(asked),
            _ => None,
        })
    }

    fn name(&self, pid: u32) -> &str {
        self.watch.processes.get(&pid).map_or("the program", |process| &process.program)
    }

    /// The process in trouble: the one that is known, else the last whose stack is, else the one
    /// that was asked for.
    fn suspect(&self, pid: Option<u32>) -> (Recognised, Option<&Process>) {
        let agents = self.events.agents.iter().fold(String::new(), |all, one| all + one + "\n");
        let seen = &self.watch.processes;
        if let Some(process) = pid.and_then(|pid| seen.get(&pid)) {
            return (Recognised::of(process, &agents), Some(process));
        }
        let all = seen.values().rev().map(|process| (Recognised::of(process, &agents), process));
        let all: Vec<_> = all.collect();
        let known = all
            .into_iter()
            .find(|(recognised, _)| !matches!(recognised.stack, Stack::Unknown | Stack::Starter));
        if let Some((recognised, process)) = known {
            return (recognised, Some(process));
        }
        let words: Vec<_> = self.program.iter().map(|w| w.to_string_lossy().into_owned()).collect();
        let program = words.first().and_then(|word| word.rsplit('/').next()).unwrap_or_default();
        let process = Process {
            program: program.to_owned(),
            words,
            folder: std::env::current_dir().ok(),
            ..Process::default()
        };
        let program = Recognised::of(&process, &agents).or_by_agent(&self.events.agents);
        (program, seen.values().next_back())
    }

    fn cure(&self, trouble: Trouble, pid: Option<u32>) -> Cure {
        let (program, process) = self.suspect(pid);
        if let Some((name, process)) = process.and_then(|p| Some((lost(p, &program, trouble)?, p)))
        {
            return cleared(name, &process.program);
        }
        let when = match trouble {
            Trouble::Direct => When::Proxy,
            Trouble::Untrusted => When::Roots,
            Trouble::Unauthenticated => When::Trusted,
        };
        let client = remedy::client_of(program.stack);
        let mut settings = settings::found(&Places::of_process()).into_iter();
        match settings.find(|one| Some(one.client) == client && one.when == when) {
            Some(setting) => Cure { because: Some(setting.message), hint: setting.hint },
            None => Cure { because: None, hint: remedy::of(&program, trouble, &self.agent) },
        }
    }
}

/// A variable that the program needs and did not get.
fn lost(process: &Process, program: &Recognised, trouble: Trouble) -> Option<&'static str> {
    let wanted: &[&'static str] = match (trouble, program.stack) {
        (_, Stack::Java) => &["JAVA_TOOL_OPTIONS"],
        (Trouble::Direct | Trouble::Unauthenticated, Stack::Node) => {
            &["HTTPS_PROXY", "NODE_OPTIONS", "NO_PROXY"]
        }
        (Trouble::Direct | Trouble::Unauthenticated, _) => {
            &["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"]
        }
        (Trouble::Untrusted, Stack::Node | Stack::Npm) => &["NODE_EXTRA_CA_CERTS"],
        (Trouble::Untrusted, Stack::Git) => &["GIT_SSL_CAINFO"],
        (Trouble::Untrusted, Stack::Python | Stack::Pip) => {
            &["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"]
        }
        (Trouble::Untrusted, Stack::Curl) => &["CURL_CA_BUNDLE"],
        (Trouble::Untrusted, _) => &["SSL_CERT_FILE"],
    };
    wanted.iter().find(|name| process.lost.contains(*name)).copied()
}

fn cleared(name: &str, program: &str) -> Cure {
    let hint = match name {
        "JAVA_TOOL_OPTIONS" | "NODE_OPTIONS" => {
            format!("add to it where it is set, instead of replacing it: `{name}=\"${name} …\"`")
        }
        _ => format!(
            "let it through (`sudo --preserve-env={name}`), or put `keyward run --` before \
             `{program}` itself"
        ),
    };
    let because = format!("{name} does not reach `{program}`: something clears or changes it");
    Cure { because: Some(because), hint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::report::Status;

    fn observed(program: &str, events: Vec<Event>, straight: &[&str]) -> Observed {
        let words: Vec<String> = program.split(' ').map(str::to_owned).collect();
        let process = Process {
            program: words[0].clone(),
            words: words.clone(),
            lost: ["HTTPS_PROXY"].into(),
            ..Process::default()
        };
        let mut watch = Watch::default();
        // 7 is a process that was seen, 8 one that was not.
        watch.processes.insert(7, Process { lost: BTreeSet::new(), ..process.clone() });
        watch.processes.insert(9, Process { program: "sudo".to_owned(), ..process });
        watch.straight = straight.iter().map(|to| (to.parse().unwrap(), 7)).collect();
        let events = Seen { events, ..Seen::default() };
        let program = words.into_iter().map(OsString::from).collect();
        Observed { events, watch, program, agent: "ci".to_owned() }
    }

    fn judged(observed: &Observed) -> Vec<(&'static str, Status, String)> {
        let mut report = Report { exit_code: Some(0), ..Report::default() };
        judge(observed, &mut report);
        report.checks.into_iter().map(|check| (check.id, check.status, check.message)).collect()
    }

    #[test]
    fn a_stream_past_the_proxy_is_told_with_its_program() {
        let found = judged(&observed("python3 app.py", vec![], &["140.82.112.3:443"]));
        let says = "`python3` connected straight to 140.82.112.3:443, past the proxy";
        assert_eq!(found, [("direct", Status::Fail, says.to_owned())]);
    }

    #[test]
    fn a_database_is_reached_straight_and_that_is_fine() {
        let shaken = Event::Shaken { host: "a.test".to_owned() };
        let found = judged(&observed("python3 app.py", vec![shaken], &["10.0.0.5:5432"]));
        assert_eq!((found[0].0, found[0].1), ("direct", Status::Warn), "{found:?}");
        assert_eq!((found[1].0, found[1].1), ("request", Status::Fail), "{found:?}");
    }

    #[test]
    fn what_is_on_this_machine_is_reached_straight_by_design() {
        let found = judged(&observed("node app.js", vec![], &["127.0.0.1:3000"]));
        let says = "it made no connection to the proxy, but to 127.0.0.1:3000: what is on this \
                    machine is reached straight";
        assert_eq!(found, [("proxy", Status::Fail, says.to_owned())]);
    }

    #[test]
    fn a_variable_that_was_cleared_is_the_reason_before_all_others() {
        let found = judged(&observed("x", vec![], &[]));
        assert!(found[0].2.contains("HTTPS_PROXY does not reach `sudo`"), "{found:?}");
    }

    #[test]
    fn what_starts_others_is_told_by_its_words() {
        for (line, says) in [
            ("sudo curl https://a.test", "sudo clears the environment"),
            ("env -i curl https://a.test", "`env -i` clears the environment"),
            ("docker run --rm image", "`keyward env --for docker > FILE`"),
            ("docker pull image", "`proxies` in /etc/docker/daemon.json"),
        ] {
            let mut observed = observed(line, vec![], &[]);
            observed.watch.processes.clear();
            assert!(observed.cure(Trouble::Direct, None).hint.contains(says), "{line}");
        }
    }

    #[test]
    fn clients_that_only_speak_http2_cannot_be_judged() {
        let host = "a.test".to_owned();
        let event = Event::Unshaken { host, why: Unshaken::Http2Only };
        let found = judged(&observed("python3 app.py", vec![event], &[]));
        let message = "a.test: it speaks only HTTP/2, which this probe does not";
        assert_eq!(found, [("tls", Status::Warn, message.to_owned())]);
    }
}
