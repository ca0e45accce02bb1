//! Transcripts of people who make the mistakes of a first day: each message must end its mistake,
//! so what it advises is typed next, and works.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use test_support::newcomer::Newcomer;
use test_support::*;

/// Of the right shape for GitHub, and canary.
const KEY: &str = "ghp_newcomerCANARYnewcomerCANARYnew12345";
const ADD: &str = "keyward connection add github --name work --no-test --secret-stdin token";

/// Compares with the snapshot of that name.
macro_rules! reads {
    ($person:expr, $name:literal) => {
        insta::assert_snapshot!($name, $person.transcript())
    };
}

fn person() -> (Newcomer, Origin) {
    let origin = Origin::answering_as(&["api.github.com"], |_| ok("hello octocat"));
    (Newcomer::before(&origin, &["api.github.com"]), origin)
}

fn mode(path: &std::path::Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours");
}

#[test]
fn who_types_nothing_is_told_the_first_steps() {
    let mut person = Newcomer::new();
    person.types("keyward");
    reads!(person, "nothing_typed");
}

#[test]
fn who_types_a_wrong_command_is_told_the_right_one() {
    let mut person = Newcomer::new();
    person.types("keyward agents list");
    person.types("keyward agent ls");
    person.types("keyward agent list");
    reads!(person, "wrong_command");
}

#[test]
fn who_runs_a_program_first_is_told_what_is_missing() {
    let mut person = Newcomer::new();
    person.types("keyward run -- echo hello");
    person.pastes(ADD, KEY);
    person.types("keyward agent bind default work");
    person.types("keyward run -- sh -c 'echo ${GITHUB_TOKEN%kwph*}'");
    reads!(person, "run_first");
}

#[test]
fn who_misspells_a_provider_is_told_the_nearest() {
    let mut person = Newcomer::new();
    person.pastes("keyward connection add guthub --secret-stdin token", KEY);
    person.pastes(ADD, KEY);
    person.types("keyward connection list --json | grep name");
    reads!(person, "provider_misspelt");
}

#[test]
fn who_writes_a_secret_into_an_argument_is_told_where_it_belongs() {
    let mut person = Newcomer::new();
    person.types("keyward connection add github --field token=ghp_abc");
    person.types("keyward connection add github");
    person.pastes("keyward connection add github --no-test --secret-stdin token", KEY);
    reads!(person, "secret_in_argument");
}

#[test]
fn who_pastes_nothing_is_told_so() {
    let mut person = Newcomer::new();
    person.types(&format!("{ADD} < /dev/null"));
    person.types(&format!("echo | {ADD}"));
    person.pastes(ADD, KEY);
    reads!(person, "nothing_pasted");
}

#[test]
fn who_takes_a_name_twice_is_told_what_has_it() {
    let mut person = Newcomer::new();
    person.pastes(ADD, KEY);
    person.pastes(ADD, KEY);
    person.pastes("keyward connection add github --name home --no-test --secret-stdin token", KEY);
    reads!(person, "name_taken");
}

#[test]
fn who_binds_an_unknown_agent_or_connection_is_told_what_there_is() {
    let mut person = Newcomer::new();
    person.pastes(ADD, KEY);
    person.types("keyward agent bind claude work");
    person.types("keyward agent add claude");
    person.types("keyward agent bind claude wrok");
    person.types("keyward agent bind claude work");
    person.types("keyward agent bind claude work");
    reads!(person, "unknown_agent");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_an_unknown_host_is_told_by_explain() {
    let (mut person, _origin) = person();
    person.pastes(ADD, KEY);
    person.types("keyward agent add claude --json > /dev/null");
    person.types("keyward agent bind claude work --json > /dev/null");
    person.types("keyward explain https://api.githib.com/user --agent claude");
    person.types("keyward explain api.github.com/user --agent claude | grep -v address");
    reads!(person, "host_unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_two_accounts_is_told_how_to_choose() {
    let (mut person, _origin) = person();
    person.pastes(ADD, KEY);
    let second = "ghp_secondCANARYsecondCANARYsecondCAN123";
    person
        .pastes("keyward connection add github --name home --no-test --secret-stdin token", second);
    person.types("keyward agent add claude --json > /dev/null");
    person.types("keyward agent bind claude work --json > /dev/null");
    person.types("keyward agent bind claude home");
    let explain = "keyward explain https://api.github.com/user --agent claude";
    person.types(explain);
    person.types(&format!("{explain} --connection home | head -n 3"));
    reads!(person, "two_accounts");
}

#[test]
fn who_finds_the_port_taken_is_told_the_setting() {
    let mut person = Newcomer::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = taken.local_addr().expect("bound");
    let yaml = format!("listen: {{ proxy: \"{at}\", admin: \"127.0.0.1:0\" }}\n");
    person.file("data/keyward.yaml", &yaml);
    person.types("keyward serve");
    person.edits("data/keyward.yaml", "listen: { proxy: 127.0.0.1:0, admin: 127.0.0.1:0 }\n");
    person.serves();
    person.types("keyward health");
    reads!(person, "port_taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_serves_twice_is_told_who_has_the_store() {
    let (mut person, _origin) = person();
    person.serves();
    person.types("keyward serve");
    person.types("keyward agent list");
    reads!(person, "served_twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_kills_the_gateway_finds_everything_again() {
    let (mut person, _origin) = person();
    person.serves();
    person.pastes(ADD, KEY);
    person.kills_it();
    person.types("keyward health");
    person.types("keyward connection list --json | grep '\"name\"'");
    person.serves();
    person.types("keyward health");
    reads!(person, "killed");
}

#[test]
fn who_takes_another_master_key_is_told_that_it_is_the_wrong_one() {
    let mut person = Newcomer::new();
    person.pastes(ADD, KEY);
    person.types("cp data/master.key kept.key");
    person.types("KEYWARD_DATA=~/other keyward init > /dev/null");
    person.types("cp other/master.key data/master.key");
    person.types("keyward connection list");
    person.types("mv kept.key data/master.key");
    person.types("keyward connection list --json | grep '\"name\"'");
    reads!(person, "wrong_master_key");
}

#[test]
fn who_loses_the_master_key_is_not_given_a_new_one() {
    let mut person = Newcomer::new();
    person.pastes(ADD, KEY);
    person.types("mv data/master.key kept.key");
    person.types("keyward connection list");
    person.types("mv kept.key data/master.key");
    person.types("keyward connection list --json | grep '\"name\"'");
    reads!(person, "lost_master_key");
}

#[test]
fn who_lets_others_read_the_key_is_told_the_command_that_closes_it() {
    let mut person = Newcomer::new();
    person.pastes(ADD, KEY);
    mode(&person.data().join("master.key"), 0o644);
    person.types("keyward connection list");
    person.types("chmod 600 data/master.key");
    person.types("keyward connection list --json | grep '\"name\"'");
    reads!(person, "open_master_key");
}

#[test]
fn who_opens_the_data_directory_is_told_the_command_that_closes_it() {
    let mut person = Newcomer::new();
    person.pastes(ADD, KEY);
    mode(&person.data(), 0o755);
    person.types("keyward connection list");
    person.types("chmod 700 data");
    person.types("keyward connection list --json | grep '\"name\"'");
    reads!(person, "open_data_directory");
}

#[test]
fn who_has_no_home_is_told_to_name_a_directory() {
    let mut person = Newcomer::new();
    person.file("data", "a file");
    person.types("keyward agent list");
    person.types("keyward agent list --data ~/elsewhere");
    reads!(person, "data_is_a_file");
}

#[test]
fn who_writes_a_wrong_configuration_is_told_all_of_it_with_lines() {
    let mut person = Newcomer::new();
    person.edits(
        "data/keyward.yaml",
        "lisen: { proxy: 127.0.0.1:8080 }\n\
         default: allow\n\
         rules:\n\
         \x20 - { name: no-deletes, hosts: [api.github.com], method: [DELETE], action: deny }\n\
         limits: { body_idle_timeout: soon }\n",
    );
    person.types("keyward agent list");
    person.edits(
        "data/keyward.yaml",
        "listen: { proxy: 127.0.0.1:0, admin: 127.0.0.1:0 }\n\
         default: deny\n\
         rules:\n\
         \x20 - { name: no-deletes, hosts: [api.github.com], methods: [DELETE], action: deny }\n",
    );
    person.types("keyward agent list");
    reads!(person, "wrong_configuration");
}

#[test]
fn who_writes_a_secret_into_the_configuration_is_told_where_it_belongs() {
    let mut person = Newcomer::new();
    let with = |token: &str| {
        format!(
            "connections:\n  - {{ name: work, provider: github, fields: {{ token: {token} }} }}\n"
        )
    };
    person.edits("data/keyward.yaml", &with("ghp_abc"));
    person.types("keyward connection list");
    let listen = "listen: { proxy: 127.0.0.1:0, admin: 127.0.0.1:0 }\n";
    person.edits("data/keyward.yaml", &format!("{listen}{}", with("{ env: WORK_TOKEN }")));
    person.types("keyward connection list");
    person.types("keyward serve");
    person.exports("WORK_TOKEN", "ghp_abcdefghijklmnopqrstuvwxyz1234567890");
    person.serves();
    person.types("keyward connection list --json | grep '\"name\"'");
    reads!(person, "secret_in_configuration");
}

#[test]
fn who_has_no_configuration_where_they_say_is_told_so() {
    let mut person = Newcomer::new();
    person.types("keyward agent list --config keyward.yml");
    person.types("keyward init");
    person.types("keyward init");
    reads!(person, "no_configuration");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_breaks_the_configuration_while_it_serves_loses_nothing() {
    let (mut person, _origin) = person();
    let good = std::fs::read_to_string(person.data().join("keyward.yaml")).expect("a file");
    person.serves();
    person.file("data/keyward.yaml", &format!("{good}rules:\n  - {{ name: x, hosts: [\"*\"] }}\n"));
    person.types("keyward reload");
    person.types("keyward health");
    let rule = "{ name: x, hosts: [api.github.com], action: deny }";
    person.file("data/keyward.yaml", &format!("{good}rules:\n  - {rule}\n"));
    person.types("keyward reload");
    reads!(person, "broken_while_serving");
}

#[test]
fn who_reloads_what_does_not_run_is_told_to_start_it() {
    let mut person = Newcomer::new();
    person.types("keyward reload");
    person.types("keyward health");
    reads!(person, "nothing_runs");
}

#[test]
fn who_runs_what_is_not_there_is_told_by_code_and_word() {
    let mut person = Newcomer::new();
    person.types("keyward run -- claud --version");
    person.types("keyward run claude");
    person.types("keyward run --agent nobody -- true");
    reads!(person, "no_such_program");
}

#[test]
fn who_edits_by_command_what_a_file_declares_is_told_to_edit_the_file() {
    let mut person = Newcomer::new();
    person.exports("WORK_TOKEN", "ghp_abcdefghijklmnopqrstuvwxyz1234567890");
    person.file(
        "data/keyward.yaml",
        "listen: { proxy: 127.0.0.1:0, admin: 127.0.0.1:0 }\n\
         connections:\n  - { name: work, provider: github, fields: { token: { env: WORK_TOKEN } } }\n\
         agents:\n  - { name: ci, use: [work] }\n",
    );
    person.serves();
    person.types("keyward connection remove work");
    person.types("keyward agent unbind ci work");
    person.types("keyward agent token add ci --json | grep label");
    reads!(person, "declared_in_a_file");
}

#[test]
fn who_removes_what_is_used_is_told_what_went_with_it() {
    let mut person = Newcomer::new();
    person.pastes(ADD, KEY);
    person.types("keyward agent add claude --json > /dev/null");
    person.types("keyward agent bind claude work --json > /dev/null");
    person.types("keyward connection remove work");
    person.types("keyward connection remove work");
    person.types("keyward agent show claude");
    reads!(person, "removed_in_use");
}

#[test]
fn who_checks_a_wrong_provider_file_is_told_each_fault() {
    let mut person = Newcomer::new();
    person.edits(
        "acme.yaml",
        "id: acme\nname: Acme\nhosts: [https://api.acme.test]\n\
         auth:\n  - { id: key, kind: apikey, placement: { header: X-Api-Key } }\n",
    );
    person.types("keyward provider check acme.yaml");
    person.edits(
        "acme.yaml",
        "id: acme\nname: Acme\nhosts: [api.acme.test]\n\
         auth:\n  - { id: key, kind: api_key, placement: { header: X-Api-Key } }\n",
    );
    person.types("keyward provider check acme.yaml");
    reads!(person, "provider_file");
}

#[test]
fn who_asks_for_a_remote_gateway_is_told_what_is_missing() {
    let mut person = Newcomer::new();
    person.exports("KEYWARD_URL", "keyward.example");
    person.types("keyward agent list");
    person.exports("KEYWARD_URL", "http://keyward.example");
    person.types("keyward agent list");
    person.exports("KEYWARD_URL", "https://keyward.example");
    person.types("keyward agent list");
    person.types("keyward run -- true");
    person.types("unset KEYWARD_URL; keyward agent list");
    reads!(person, "remote");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_a_crash_left_is_no_hindrance() {
    let (mut person, _origin) = person();
    person.serves();
    person.kills_it();
    assert!(person.data().join("admin.sock").exists());
    person.types("keyward run -- echo served");
    person.serves();
    assert!(person.is_served());
    reads!(person, "stale_socket");
}

#[test]
fn who_pastes_another_key_is_told_whose_it_looks_like() {
    let mut person = Newcomer::new();
    let other = "sk-ant-api03-canaryCANARYcanaryCANARYcanary";
    person.pastes(ADD, other);
    person.pastes(ADD, &format!("export GITHUB_TOKEN={KEY}"));
    person.pastes(ADD, "ghp_short");
    person.pastes(ADD, KEY);
    reads!(person, "another_key");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_connects_step_by_step_without_a_terminal_is_told_the_options() {
    let (mut person, origin) = person();
    person.types("keyward connect < /dev/null");
    person.types("keyward connect github < /dev/null");
    person.pastes("keyward connect github --name work --secret-stdin token --agent claude", KEY);
    person.types("keyward explain https://api.github.com/user --agent claude | head -n 3");
    reads!(person, "connected_by_options");
    assert_eq!(origin.only().head.all("authorization"), [format!("Bearer {KEY}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_pauses_a_connection_reads_so_wherever_it_is_asked_for() {
    let (mut person, _origin) = person();
    person.pastes("keyward connect github --name work --secret-stdin token --no-test", KEY);
    person.types("keyward connection pause work");
    person.types("keyward explain https://api.github.com/user --agent default");
    person.types("keyward connection test work");
    person.types("keyward connection resume work");
    person.types("keyward explain https://api.github.com/user --agent default | head -n 3");
    reads!(person, "paused");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stores_a_dead_key_is_told_by_a_test() {
    let refusal = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
    let origin = Origin::answering_as(&["api.github.com"], move |_| refusal);
    let mut person = Newcomer::before(&origin, &["api.github.com"]);
    person.pastes(ADD, KEY);
    person.types("keyward connection test work");
    reads!(person, "dead_key");
}

#[test]
fn who_asks_the_doctor_before_there_is_anything_is_told_where_to_begin() {
    let mut person = Newcomer::new();
    person.types("keyward doctor | grep -A 1 '  data '");
    reads!(person, "doctor_first");
}

#[test]
fn who_rotates_a_key_twice_and_a_ca_is_told_what_to_keep() {
    let mut person = Newcomer::new();
    person.pastes(ADD, KEY);
    person.types("keyward key rotate");
    person.types("keyward key list");
    person.types("keyward ca rotate --overlap 1h");
    person.types("keyward ca rotate");
    person.types("keyward connection list --json | grep '\"name\"'");
    reads!(person, "rotated");
}
