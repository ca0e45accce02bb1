//! Turns the observations about a program into a report. Messages state observations; a conclusion is a
//! hint that begins with `guess:`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::SocketAddr;

use super::program::RecognisedProgram;
use super::remedy::{self, Evidence, ProbedAgent, ProxyProblem};
use super::watch::{Process, ProcessWatch};
use crate::cli::doctor::report::{CheckStatus, DoctorReport};
use crate::cli::doctor::settings::{self, ConfigDirs, SettingKind};
use keyward_base::codes::Code;
use keyward_proxy::{
    CarriedCredential, HandshakeFailure, ProbeEvent, ProbedRefusal, ProbedRequest, Seen,
};

/// Most reports of each kind: a browser causes hundreds.
const REPORTED_MAX: usize = 10;
/// Ports of APIs. Other ports more often belong to databases.
const WEB_PORTS: &[u16] = &[80, 443, 8080, 8443];

/// Everything known about a program that has ended.
pub(super) struct ProbeResult {
    pub(super) events: Vec<ProbeEvent>,
    pub(super) watch: ProcessWatch,
    pub(super) program: Vec<OsString>,
    pub(super) agent: ProbedAgent,
}

/// A hint for the user, with its reason.
struct Advice {
    /// An observed cause: a lost variable, a line of a file.
    because: Option<String>,
    evidence: Evidence,
    hint: String,
}

impl Advice {
    /// The end of a message.
    fn because(&self) -> String {
        self.because.as_ref().map_or_else(String::new, |because| format!(": {because}"))
    }

    /// The hint, marked as a guess unless its cause was observed.
    fn marked_hint(&self) -> String {
        match self.because {
            Some(_) => self.hint.clone(),
            None => guess(&self.hint),
        }
    }
}

fn guess(hint: &str) -> String {
    format!("guess: {hint}")
}

/// Adds the checks of a program to the report.
pub(super) fn judge(observed: &ProbeResult, report: &mut DoctorReport) {
    if observed.watch.is_blind {
        let message = "the program's processes were not watched, because /proc cannot be read: \
                       connections past the proxy and lost variables are unknown";
        report.warn("processes", message, "mount /proc, and run it again");
    }
    let straight = past_the_proxy(observed, report);
    if observed.events.is_empty() {
        if !straight {
            no_connection(observed, report);
        }
    } else {
        other_protocols(observed, report);
        without_token(observed, report);
        hosts(observed, report);
    }
    if let (false, Some(code @ 1..)) = (report.failed(), report.exit_code) {
        let hint = "every request is answered with 200 and a small JSON, and every gRPC call with \
                    UNIMPLEMENTED, which it may not have expected";
        report.warn("program", format!("the program ended with exit code {code}"), guess(hint));
    }
}

/// Reports streams that bypass the proxy. Returns whether one of them is a failure.
fn past_the_proxy(observed: &ProbeResult, report: &mut DoctorReport) -> bool {
    let mut found = DoctorReport::default();
    let away = observed.watch.straight.iter().filter(|(to, _)| !to.ip().is_loopback());
    for (to, pid) in away {
        let (name, advice) =
            (observed.name(*pid), observed.advice(ProxyProblem::Direct, Some(*pid)));
        let because = advice.because();
        let message =
            format!("`{name}` connected directly to {to}, not through the proxy{because}");
        match advice.because.is_some() || WEB_PORTS.contains(&to.port()) {
            true => found.fail("direct", message, advice.marked_hint()),
            false => {
                let hint =
                    "no problem if that is not an API: databases and ssh do not use the proxy";
                found.warn("direct", message, guess(hint));
            }
        }
    }
    let omitted = report.add_worst(found, REPORTED_MAX);
    if let Some(worst) = omitted.first() {
        let message = format!("it connected directly to {} more addresses", omitted.len());
        report.add("direct", worst.status, message, String::new());
    }
    report.failed()
}

/// Reports that the proxy was not contacted.
fn no_connection(observed: &ProbeResult, report: &mut DoctorReport) {
    let advice = observed.advice(ProxyProblem::Direct, None);
    let (here, away): (Vec<&SocketAddr>, Vec<_>) =
        observed.watch.straight.keys().partition(|to| to.ip().is_loopback());
    let saw = "saw no connection to the proxy";
    let or_elsewhere = if observed.watch.is_blind { "" } else { " or elsewhere" };
    if advice.because.is_some() {
        return report.fail("proxy", format!("{saw}{}", advice.because()), advice.marked_hint());
    }
    if let Some(at) = here.first() {
        let message = format!("{saw}, but one to {at}: programs connect to this machine directly");
        return report.fail("proxy", message, advice.marked_hint());
    }
    if observed.watch.looked_up {
        let message = format!(
            "{saw}, but the program resolved names itself, as programs do that connect directly"
        );
        return report.fail("proxy", message, advice.marked_hint());
    }
    // The check `direct` names the other hosts.
    if !away.is_empty() {
        return report.fail("proxy", saw, advice.marked_hint());
    }
    let Some(code @ 1..) = report.exit_code else {
        return report.fail("proxy", format!("{saw}{or_elsewhere}"), advice.marked_hint());
    };
    // The program may have failed before it connected.
    let failed = "it failed before it would connect: see its output";
    let message = format!("{saw}{or_elsewhere}; the program ended with exit code {code}");
    match advice.evidence {
        Evidence::Word => {
            report.fail("proxy", message, format!("{}. Or {failed}", advice.marked_hint()))
        }
        Evidence::Stack => {
            report.fail("program", message, guess(&format!("{failed}. Or else: {}", advice.hint)));
        }
        Evidence::None => {
            let unresolved =
                "If it could not resolve a name, it ignores the proxy, which resolves names for it";
            report.fail("program", message, guess(&format!("{failed}. {unresolved}")));
        }
    }
}

/// Reports streams that do not speak HTTP to a proxy.
fn other_protocols(observed: &ProbeResult, report: &mut DoctorReport) {
    /// The first byte of a TLS record (RFC 8446 §5.1).
    const TLS: u8 = 0x16;
    /// The versions of SOCKS.
    const SOCKS: [u8; 2] = [4, 5];
    let first = observed.events.iter().filter_map(|event| match event.seen {
        Seen::NoHttp(byte) => Some(byte),
        _ => None,
    });
    let first: BTreeSet<u8> = first.collect();
    if first.contains(&TLS) {
        let hint = "write the proxy's URL with http://: the connection to the proxy itself does not use TLS";
        report.fail("proxy", "it speaks TLS to the proxy", hint);
    }
    if SOCKS.iter().any(|version| first.contains(version)) {
        let hint = "use its option for HTTP proxies: the gateway does not support SOCKS";
        report.fail("proxy", "it speaks SOCKS to the proxy", hint);
    }
    let is_other = |byte: &u8| *byte != TLS && !SOCKS.contains(byte);
    let is_for_api = observed.events.iter().any(|event| event.seen == Seen::OriginForm);
    if is_for_api || first.iter().any(is_other) {
        let hint = "set the URL as its proxy, not as the API's address; for \
                    that there are base URLs, `keyward env --base-url`";
        report.fail("proxy", "it uses the proxy as its API server", hint);
    }
}

/// Reports base URLs that the gateway would not serve.
fn without_token(observed: &ProbeResult, report: &mut DoctorReport) {
    let mut told = BTreeSet::new();
    for event in &observed.events {
        let (Seen::RefusedBaseUrl(refusal), Some(connection)) = (&event.seen, &event.host) else {
            continue;
        };
        let agent = &observed.agent.name;
        let (message, hint) = if event.agent.is_some() {
            (
                format!("{connection}: a listener of one agent serves no base URLs"),
                "use the address of an ordinary listener (`listen.proxy`)".to_owned(),
            )
        } else if refusal.is(Code::BaseUrlUnauthenticated) {
            (
                format!("{connection}: a request to its base URL carries no token"),
                format!(
                    "give the program the agent's token as its API key: `keyward env --agent \
                     {agent} --base-url {connection}`"
                ),
            )
        } else {
            continue;
        };
        if told.insert(connection) && told.len() <= REPORTED_MAX {
            report.fail("auth", message, hint);
        }
    }
}

/// Reports requests that policy refuses, the first to each host.
pub(super) fn policy(observed: &ProbeResult, report: &mut DoctorReport) {
    let refused = observed.first_requests().filter_map(|(host, request)| {
        let ProbedRefusal { message, hint, .. } = request.refused.as_ref()?;
        // Without the path, which may contain a secret.
        let message = format!("the gateway would refuse {} at {host}: {message}", request.method);
        Some((message, hint.clone().unwrap_or_default()))
    });
    let refused: Vec<_> = refused.collect();
    let more = refused.len().saturating_sub(REPORTED_MAX);
    for (message, hint) in refused.into_iter().take(REPORTED_MAX) {
        report.warn("policy", message, hint);
    }
    if more > 0 {
        report.warn("policy", format!("it would refuse requests at {more} more hosts"), "");
    }
}

/// Reports each host by the attempt that came furthest.
fn hosts(observed: &ProbeResult, report: &mut DoctorReport) {
    let mut hosts: BTreeMap<&str, Vec<&ProbeEvent>> = BTreeMap::new();
    for event in &observed.events {
        if let Some(host) = &event.host {
            hosts.entry(host).or_default().push(event);
        }
    }
    let asked = observed.first_requests().count();
    let mut found = DoctorReport::default();
    for (host, events) in &hosts {
        let request = events.iter().find_map(|event| Some((*event, event.request()?)));
        match request {
            Some((event, request)) => arrived(host, event, request, &mut found),
            None => stopped(observed, host, events, asked > 0, &mut found),
        }
    }
    let omitted = report.add_worst(found, REPORTED_MAX);
    let Some(worst) = omitted.first() else { return };
    let message = format!("{} more hosts were requested", omitted.len());
    let message = match omitted.iter().filter(|it| it.status != CheckStatus::Ok).count() {
        0 => message,
        problems => format!("{message}, {problems} of them with a problem"),
    };
    report.add("request", worst.status, message, String::new());
}

fn arrived(host: &str, event: &ProbeEvent, request: &ProbedRequest, report: &mut DoctorReport) {
    let way = match (request.base_url, &event.agent, request.own_token) {
        (true, ..) => {
            let message = format!("{host}: it uses the connection's base URL, with a token");
            return report.ok("request", message);
        }
        (false, Some(agent), _) => format!("it uses the listener of agent {agent}"),
        (false, None, true) => "it uses the proxy".to_owned(),
        // It has the address and the token from elsewhere.
        (false, None, false) => format!("it uses the gateway's listener {}", event.listener),
    };
    let message = match &request.credential {
        CarriedCredential::Placeholder(place) => format!("a placeholder in {place}"),
        CarriedCredential::Nothing => "no credential; the gateway adds it".to_owned(),
        CarriedCredential::Own(field) => {
            let message = format!("{host}: {way}, but `{field}` has no placeholder");
            let hint = "the gateway replaces it where it injects a credential; better not to \
                        give the program one";
            return report.warn("request", message, hint);
        }
    };
    report.ok("request", format!("{host}: {way} and trusts the CA; {message}"));
}

/// Reports a host without a complete request.
fn stopped(
    observed: &ProbeResult,
    host: &str,
    events: &[&ProbeEvent],
    others_arrived: bool,
    report: &mut DoctorReport,
) {
    let advice = |problem| observed.advice(problem, None);
    // The last attempt came furthest.
    let Some(last) = events.last() else { return };
    match &last.seen {
        Seen::Refused(refusal) if refusal.is(Code::AgentUnauthenticated) => {
            let advice = advice(ProxyProblem::Unauthenticated);
            let message =
                format!("{host}: it sends no credentials to the proxy{}", advice.because());
            report.fail("auth", message, advice.marked_hint());
        }
        Seen::NoHandshake(HandshakeFailure::Untrusted { alert }) => {
            let advice = advice(ProxyProblem::Untrusted);
            let because = advice.because();
            let (message, hint) = match alert {
                Some(alert) => (
                    format!("{host}: it does not trust the CA ({alert}){because}"),
                    advice.marked_hint(),
                ),
                None => (
                    format!("{host}: it closed the connection during the TLS handshake{because}"),
                    guess(&format!("it does not trust the CA: {}", advice.hint)),
                ),
            };
            report.fail("tls", message, hint);
        }
        Seen::NoHandshake(HandshakeFailure::Other(why)) => {
            let hint = "the gateway supports TLS 1.2 and 1.3";
            report.fail("tls", format!("{host}: the TLS handshake failed: {why}"), hint);
        }
        Seen::NoHandshake(HandshakeFailure::NotTls) => {
            let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
            let hint = format!(
                "a rule lets it through without looking inside: `rules: [{{ name: other, hosts: \
                 [\"{name}\"], action: tunnel }}]`"
            );
            report.fail(
                "tls",
                format!("{host}: the data that it sends through the proxy is not TLS"),
                hint,
            );
        }
        Seen::Tunnel => {
            let message = format!("{host}: it opened a stream and sent no request");
            let hint = guess(
                "it checks the service's certificate itself (pins it), and cannot use the proxy: where \
                 the API's address can be set, give it a base URL (`keyward env --base-url`)",
            );
            match others_arrived {
                true => report.warn("request", message, hint),
                false => report.fail("request", message, hint),
            }
        }
        // Reported with those of all hosts.
        Seen::RefusedBaseUrl(refusal)
            if last.agent.is_some() || refusal.is(Code::BaseUrlUnauthenticated) => {}
        Seen::Refused(refusal) | Seen::RefusedBaseUrl(refusal) => {
            let message = format!("{host}: the gateway would refuse it: {}", refusal.message);
            report.warn("policy", message, refusal.hint.clone().unwrap_or_default());
        }
        Seen::NoHttp(_) | Seen::OriginForm | Seen::Request(_) => {}
    }
}

impl ProbeResult {
    /// The first request to each host.
    pub(super) fn first_requests(&self) -> impl Iterator<Item = (&str, &ProbedRequest)> {
        let mut hosts = BTreeSet::new();
        self.events.iter().filter_map(move |event| {
            let (host, request) = (event.host.as_deref()?, event.request()?);
            hosts.insert(host).then_some((host, request))
        })
    }

    /// User agents of its clients.
    fn agents(&self) -> BTreeSet<&str> {
        self.events.iter().filter_map(|event| event.user_agent.as_deref()).collect()
    }

    fn name(&self, pid: u32) -> &str {
        self.watch.processes.get(&pid).map_or("the program", |process| &process.program)
    }

    /// The process that has the problem: the given one, else the last with a known stack, else the program
    /// of the command line.
    fn suspect(&self, pid: Option<u32>) -> (RecognisedProgram, Option<&Process>) {
        let clients = self.agents();
        let agents = clients.iter().fold(String::new(), |all, one| all + *one + "\n");
        let seen = &self.watch.processes;
        if let Some(process) = pid.and_then(|pid| seen.get(&pid)) {
            return (RecognisedProgram::of(process, &agents), Some(process));
        }
        let all =
            seen.values().rev().map(|process| (RecognisedProgram::of(process, &agents), process));
        let all: Vec<_> = all.collect();
        let known = all.into_iter().find(|(recognised, _)| recognised.stack.is_known());
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
        let program = RecognisedProgram::of(&process, &agents).or_by_agent(clients);
        (program, seen.values().next_back())
    }

    fn advice(&self, problem: ProxyProblem, pid: Option<u32>) -> Advice {
        let (program, process) = self.suspect(pid);
        if let Some((name, process)) = process.and_then(|p| Some((lost(p, &program, problem)?, p)))
        {
            return cleared(name, &process.program);
        }
        let kind = match problem {
            ProxyProblem::Direct => SettingKind::Proxy,
            ProxyProblem::Untrusted => SettingKind::Roots,
            ProxyProblem::Unauthenticated => SettingKind::Trusted,
        };
        let client = program.stack.client;
        let mut settings = settings::found(&ConfigDirs::of_process()).into_iter();
        match settings.find(|one| Some(one.client) == client && one.kind == kind) {
            Some(setting) => {
                let (because, hint) = (Some(setting.message), setting.hint);
                Advice { because, evidence: Evidence::None, hint }
            }
            None => {
                let remedy::Remedy { hint, evidence } = remedy::of(&program, problem, &self.agent);
                Advice { because: None, evidence, hint }
            }
        }
    }
}

/// A variable that the program needs, and that is missing in its environment.
fn lost(
    process: &Process,
    program: &RecognisedProgram,
    problem: ProxyProblem,
) -> Option<&'static str> {
    let wanted = match problem {
        ProxyProblem::Direct | ProxyProblem::Unauthenticated => &program.stack.proxy_variables,
        ProxyProblem::Untrusted => &program.stack.trust_variables,
    };
    wanted.iter().find(|name| process.lost.contains(*name)).copied()
}

fn cleared(name: &str, program: &str) -> Advice {
    let hint = match name {
        "JAVA_TOOL_OPTIONS" | "MAVEN_OPTS" | "GRADLE_OPTS" | "NODE_OPTIONS" => {
            format!("extend it where it is set, instead of replacing it: `{name}=\"${name} …\"`")
        }
        _ => format!(
            "let it through (`sudo --preserve-env={name}`), or put `keyward run --` before \
             `{program}` itself"
        ),
    };
    let because = format!("{name} does not reach `{program}`: something clears or changes it");
    Advice { because: Some(because), evidence: Evidence::None, hint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::report::DoctorCheck;

    /// Seen of a request to this host.
    fn event(host: &str, seen: Seen) -> ProbeEvent {
        ProbeEvent { host: Some(host.to_owned()), seen, ..ProbeEvent::default() }
    }

    fn untrusted(host: &str, alert: Option<&str>) -> ProbeEvent {
        let alert = alert.map(str::to_owned);
        event(host, Seen::NoHandshake(HandshakeFailure::Untrusted { alert }))
    }

    fn refused(host: &str, code: Code) -> ProbeEvent {
        event(host, Seen::Refused(code.because("why").hint("how").into()))
    }

    fn observed(program: &str, events: Vec<ProbeEvent>, straight: &[&str]) -> ProbeResult {
        let words: Vec<String> = program.split(' ').map(str::to_owned).collect();
        let process = Process {
            program: words[0].clone(),
            words: words.clone(),
            lost: ["HTTPS_PROXY"].into(),
            ..Process::default()
        };
        let mut watch = ProcessWatch::default();
        // 7 is a process that was seen, 8 one that was not.
        watch.processes.insert(7, Process { lost: BTreeSet::new(), ..process.clone() });
        watch.processes.insert(9, Process { program: "sudo".to_owned(), ..process });
        watch.straight = straight.iter().map(|to| (to.parse().unwrap(), 7)).collect();
        let program = words.into_iter().map(OsString::from).collect();
        let agent = ProbedAgent { name: "ci".to_owned(), ..ProbedAgent::default() };
        ProbeResult { events, watch, program, agent }
    }

    fn judged(observed: &ProbeResult) -> Vec<(&'static str, CheckStatus, String)> {
        let checks = checks(observed, 0);
        checks.into_iter().map(|check| (check.id, check.status, check.message)).collect()
    }

    fn checks(observed: &ProbeResult, exit_code: u8) -> Vec<DoctorCheck> {
        let mut report = DoctorReport { exit_code: Some(exit_code), ..DoctorReport::default() };
        judge(observed, &mut report);
        report.checks
    }

    #[test]
    fn a_stream_that_bypasses_the_proxy_is_reported_with_its_program() {
        let found = judged(&observed("python3 app.py", vec![], &["140.82.112.3:443"]));
        let says = "`python3` connected directly to 140.82.112.3:443, not through the proxy";
        assert_eq!(found, [("direct", CheckStatus::Fail, says.to_owned())]);
    }

    #[test]
    fn without_proc_the_report_names_what_is_unknown_and_denies_no_other_connection() {
        let mut blind = observed("python3 app.py", vec![], &[]);
        blind.watch = ProcessWatch::default();
        blind.watch.is_blind = true;
        let found = judged(&blind);
        assert_eq!((found[0].0, found[0].1), ("processes", CheckStatus::Warn), "{found:?}");
        assert!(found[0].2.contains("/proc cannot be read"), "{found:?}");
        assert_eq!(found[1].2, "saw no connection to the proxy");
        let failed = checks(&blind, 1).pop().map(|check| check.message).unwrap_or_default();
        assert!(!failed.contains("elsewhere"), "{failed}");
    }

    #[test]
    fn a_direct_stream_to_a_database_port_is_a_warning_and_no_failure() {
        let shaken = event("a.test", Seen::Tunnel);
        let found = judged(&observed("python3 app.py", vec![shaken], &["10.0.0.5:5432"]));
        assert_eq!((found[0].0, found[0].1), ("direct", CheckStatus::Warn), "{found:?}");
        assert_eq!((found[1].0, found[1].1), ("request", CheckStatus::Fail), "{found:?}");
    }

    #[test]
    fn a_database_elsewhere_is_not_said_to_be_on_this_machine() {
        let mut observed = observed("psql -h db.test", vec![], &["10.0.0.5:5432"]);
        for process in observed.watch.processes.values_mut() {
            process.lost.clear();
        }
        for code in [0, 2] {
            let found = checks(&observed, code);
            let found: Vec<_> = found.iter().map(|it| (it.id, it.status, &*it.message)).collect();
            assert_eq!((found[0].0, found[0].1), ("direct", CheckStatus::Warn), "{found:?}");
            let says = ("proxy", CheckStatus::Fail, "saw no connection to the proxy");
            assert_eq!(found[1..], [says]);
        }
    }

    #[test]
    fn failures_precede_other_checks_and_omitted_hosts_and_addresses_are_counted() {
        let mut events: Vec<_> = (0..11).map(|n| request(&format!("h{n:02}.test"))).collect();
        events.push(untrusted("z.test", Some("UnknownCA")));
        let found = judged(&untouched("x", events));
        assert_eq!((found[0].0, found[0].1), ("tls", CheckStatus::Fail), "{found:?}");
        let more = ("request", CheckStatus::Ok, "2 more hosts were requested".to_owned());
        assert_eq!((found.len(), found.last()), (REPORTED_MAX + 1, Some(&more)));

        let mut straight: Vec<_> = (1..=10).map(|n| format!("10.0.0.{n}:9042")).collect();
        straight.push("140.82.112.3:443".to_owned());
        let straight: Vec<_> = straight.iter().map(String::as_str).collect();
        let found = judged(&observed("x", vec![request("a.test")], &straight));
        let says = "`x` connected directly to 140.82.112.3:443, not through the proxy";
        assert_eq!(found[0], ("direct", CheckStatus::Fail, says.to_owned()));
        let says = "it connected directly to 1 more addresses";
        assert_eq!(found[REPORTED_MAX], ("direct", CheckStatus::Warn, says.to_owned()));

        let failed = |n: u32| untrusted(&format!("h{n:02}.test"), None);
        let found = judged(&untouched("x", (0..12).map(failed).collect()));
        let says = "2 more hosts were requested, 2 of them with a problem";
        assert_eq!(found.last(), Some(&("request", CheckStatus::Fail, says.to_owned())));
    }

    #[test]
    fn a_failed_proxy_check_explains_a_direct_stream_to_this_machine() {
        let found = judged(&observed("node app.js", vec![], &["127.0.0.1:3000"]));
        let says = "saw no connection to the proxy, but one to 127.0.0.1:3000: programs connect to \
                    this machine directly";
        assert_eq!(found, [("proxy", CheckStatus::Fail, says.to_owned())]);
    }

    #[test]
    fn a_cleared_proxy_variable_is_the_first_reported_reason() {
        let found = judged(&observed("x", vec![], &[]));
        assert!(found[0].2.contains("HTTPS_PROXY does not reach `sudo`"), "{found:?}");
    }

    #[test]
    fn the_remedy_for_sudo_env_and_docker_follows_their_arguments() {
        for (line, says) in [
            ("sudo curl https://a.test", "sudo clears the environment"),
            ("env -i curl https://a.test", "`env -i` clears the environment"),
            ("docker run --rm image", "`keyward env --for docker > FILE`"),
            ("docker pull image", "`proxies` in /etc/docker/daemon.json"),
        ] {
            let mut observed = observed(line, vec![], &[]);
            observed.watch.processes.clear();
            assert!(observed.advice(ProxyProblem::Direct, None).hint.contains(says), "{line}");
        }
    }

    /// Arrives through the proxy.
    fn request(host: &str) -> ProbeEvent {
        event(host, Seen::Request(asked()))
    }

    fn asked() -> ProbedRequest {
        ProbedRequest {
            method: "GET".to_owned(),
            base_url: false,
            own_token: true,
            credential: CarriedCredential::Nothing,
            refused: None,
        }
    }

    /// Nothing of its environment is lost.
    fn untouched(program: &str, events: Vec<ProbeEvent>) -> ProbeResult {
        let mut observed = observed(program, events, &[]);
        for process in observed.watch.processes.values_mut() {
            process.lost.clear();
        }
        observed
    }

    #[test]
    fn a_program_that_fails_before_it_connects_is_not_said_to_ignore_the_proxy() {
        let found = checks(&untouched("deploy --all", vec![]), 3);
        let DoctorCheck { id, message, hint, .. } = &found[0];
        assert_eq!(*id, "program");
        let says =
            "saw no connection to the proxy or elsewhere; the program ended with exit code 3";
        assert_eq!(message, says);
        let hint = hint.as_ref().unwrap();
        assert!(hint.starts_with("guess: it failed before it would connect"), "{hint}");
        assert!(!hint.contains("HTTPS_PROXY"), "{hint}");
        // In a container without DNS, this is the only trace of a program that connects directly.
        assert!(hint.contains("If it could not resolve a name, it ignores the proxy"), "{hint}");
        assert_eq!(checks(&untouched("deploy --all", vec![]), 0)[0].id, "proxy");
    }

    #[test]
    fn a_known_stack_that_fails_before_it_connects_gets_both_guesses() {
        let found = checks(&untouched("node app.js", vec![]), 1);
        assert_eq!(found[0].id, "program");
        let hint = found[0].hint.as_ref().unwrap();
        assert!(hint.starts_with("guess: it failed before it would connect"), "{hint}");
        assert!(hint.contains(". Or else: it opens sockets of its own"), "{hint}");
    }

    #[test]
    fn the_hint_for_an_inferred_cause_is_marked_as_a_guess_and_for_a_seen_one_not() {
        let not_tls = Seen::NoHandshake(HandshakeFailure::NotTls);
        let table = [
            (untouched("x", vec![untrusted("a.test", Some("UnknownCA"))]), true),
            (untouched("x", vec![untrusted("a.test", None)]), true),
            (untouched("x", vec![refused("a.test", Code::AgentUnauthenticated)]), true),
            (untouched("x", vec![event("a.test", Seen::Tunnel)]), true),
            (untouched("x", vec![]), true),
            (observed("x", vec![], &[]), false),
            (untouched("x", vec![event("a.test", Seen::NoHttp(5))]), false),
            (untouched("x", vec![event("a.test", not_tls)]), false),
        ];
        for (observed, is_guess) in table {
            let found = checks(&observed, 0);
            let hint = found[0].hint.as_ref().unwrap();
            assert_eq!(hint.starts_with("guess: "), is_guess, "{}: {hint}", found[0].message);
            assert!(!found[0].message.contains("guess"), "{}", found[0].message);
        }
    }

    #[test]
    fn a_tls_handshake_closed_without_an_alert_is_not_reported_as_distrust() {
        let found = judged(&untouched("x", vec![untrusted("a.test", None)]));
        assert_eq!(found[0].2, "a.test: it closed the connection during the TLS handshake");
    }

    #[test]
    fn each_route_to_the_gateway_is_reported_by_its_name() {
        let (proxy, other) = (asked(), ProbedRequest { own_token: false, ..asked() });
        let base_url = ProbedRequest { base_url: true, ..asked() };
        for (request, agent, says) in [
            (proxy, None, "it uses the proxy and trusts the CA; no credential; "),
            (other.clone(), Some("web"), "it uses the listener of agent web and trusts the CA; "),
            (other, None, "it uses the gateway's listener [::1]:1 and "),
            (base_url, None, "it uses the connection's base URL, with a token"),
        ] {
            let event = ProbeEvent {
                listener: "[::1]:1".to_owned(),
                agent: agent.map(str::to_owned),
                ..event("a.test", Seen::Request(request))
            };
            let found = judged(&untouched("x", vec![event]));
            assert!(found[0].2.starts_with(&format!("a.test: {says}")), "{found:?}");
        }
    }

    #[test]
    fn a_base_url_without_a_token_or_on_an_agents_own_listener_is_reported() {
        for (code, agent, says) in [
            (Code::BaseUrlUnauthenticated, None, "carries no token"),
            (Code::BaseUrlRefused, Some("ci"), "serves no base URLs"),
        ] {
            let agent = agent.map(str::to_owned);
            let refusal = code.because("why").hint("how").into();
            let event = ProbeEvent { agent, ..event("work", Seen::RefusedBaseUrl(refusal)) };
            let found = judged(&untouched("x", vec![event.clone(), event]));
            assert_eq!((found.len(), found[0].0), (1, "auth"), "{found:?}");
            assert!(found[0].2.starts_with("work: ") && found[0].2.contains(says), "{found:?}");
        }
    }

    /// Both have the same text.
    #[test]
    fn a_407_of_the_proxy_is_not_called_a_base_url_without_a_token() {
        let found = judged(&untouched("x", vec![refused("a.test", Code::AgentUnauthenticated)]));
        let says = "a.test: it sends no credentials to the proxy";
        assert_eq!(found, [("auth", CheckStatus::Fail, says.to_owned())]);
    }

    #[test]
    fn a_base_url_that_is_refused_for_another_reason_is_a_warning() {
        for code in [Code::HostMismatch, Code::BaseUrlRefused] {
            let refusal = code.because("why").hint("how").into();
            let found = checks(&untouched("x", vec![event("a", Seen::RefusedBaseUrl(refusal))]), 0);
            assert_eq!(
                (found.len(), found[0].id, found[0].status),
                (1, "policy", CheckStatus::Warn)
            );
            assert_eq!(found[0].message, "a: the gateway would refuse it: why");
        }
    }

    #[test]
    fn refusals_of_policy_are_warnings_of_which_the_first_are_told_in_full() {
        let refusal = || Some(Code::DefaultDeny.because("no rule").hint("add one").into());
        let request = |n: u32| {
            event(
                &format!("h{n:02}.test"),
                Seen::Request(ProbedRequest { refused: refusal(), ..asked() }),
            )
        };
        let events = (0..12).flat_map(|n| [request(n), request(n)]).collect();
        let mut report = DoctorReport::default();
        policy(&untouched("x", events), &mut report);
        let first = &report.checks[0];
        assert_eq!((first.id, first.status), ("policy", CheckStatus::Warn));
        assert_eq!(first.message, "the gateway would refuse GET at h00.test: no rule");
        assert_eq!(first.hint.as_deref(), Some("add one"));
        let last = report.checks.last().unwrap();
        assert_eq!(last.message, "it would refuse requests at 2 more hosts");
        assert_eq!(report.checks.len(), REPORTED_MAX + 1);
    }

    #[test]
    fn a_request_that_is_refused_before_policy_is_asked_is_a_warning() {
        let events = vec![event("a.test", Seen::Tunnel), refused("a.test", Code::HostMismatch)];
        let found = checks(&untouched("x", events), 0);
        assert_eq!((found[0].id, found[0].status), ("policy", CheckStatus::Warn));
        assert_eq!(found[0].message, "a.test: the gateway would refuse it: why");
        assert_eq!(found[0].hint.as_deref(), Some("how"));
    }

    #[test]
    fn an_unauthenticated_chromium_with_its_variables_gets_the_chromium_remedy() {
        let mut observed = untouched("chromium --headless", vec![]);
        observed.events.push(refused("a.test", Code::AgentUnauthenticated));
        let hint = checks(&observed, 0)[0].hint.clone().unwrap();
        for says in ["`--proxy-server=http://127.0.0.1:8090`", "certutil -d", "page.authenticate"] {
            assert!(hint.contains(says), "{says}: {hint}");
        }
    }
}
