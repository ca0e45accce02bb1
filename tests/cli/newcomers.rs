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
fn a_call_without_arguments_lists_the_commands_in_groups() {
    let mut person = Newcomer::new();
    person.types("keyward");
    reads!(person, "nothing_typed");
}

#[test]
fn a_wrong_command_gets_similar_commands_as_a_tip() {
    let mut person = Newcomer::new();
    person.types("keyward agents list");
    person.types("keyward agent ls");
    person.types("keyward agent list");
    reads!(person, "wrong_command");
}

#[test]
fn a_run_without_a_connection_gets_a_hint_to_connect() {
    let mut person = Newcomer::new();
    person.types("keyward run -- echo hello");
    person.pastes(ADD, KEY);
    person.types("keyward agent bind default work");
    person.types("keyward run -- sh -c 'echo ${GITHUB_TOKEN%kwph*}'");
    reads!(person, "run_first");
}

#[test]
fn a_misspelt_provider_gets_the_nearest_name_as_a_hint() {
    let mut person = Newcomer::new();
    person.pastes("keyward connection add guthub --secret-stdin token", KEY);
    person.pastes(ADD, KEY);
    person.types("keyward connection list --json | grep name");
    reads!(person, "provider_misspelt");
}

#[test]
fn a_secret_in_an_argument_is_refused_with_the_options_for_secrets() {
    let mut person = Newcomer::new();
    person.types("keyward connection add github --field token=ghp_abc");
    person.types("keyward connection add github");
    person.pastes("keyward connection add github --no-test --secret-stdin token", KEY);
    reads!(person, "secret_in_argument");
}

#[test]
fn a_secret_from_an_empty_standard_input_is_refused() {
    let mut person = Newcomer::new();
    person.types(&format!("{ADD} < /dev/null"));
    person.types(&format!("echo | {ADD}"));
    person.pastes(ADD, KEY);
    reads!(person, "nothing_pasted");
}

#[test]
fn a_connection_with_an_existing_name_is_refused_with_a_remedy() {
    let mut person = Newcomer::new();
    person.pastes(ADD, KEY);
    person.pastes(ADD, KEY);
    person.pastes("keyward connection add github --name home --no-test --secret-stdin token", KEY);
    reads!(person, "name_taken");
}

#[test]
fn binding_an_unknown_agent_or_connection_gets_a_hint_to_list_them() {
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
async fn explain_says_why_an_unknown_host_would_be_refused() {
    let (mut person, _origin) = person();
    person.pastes(ADD, KEY);
    person.types("keyward agent add claude --json > /dev/null");
    person.types("keyward agent bind claude work --json > /dev/null");
    person.types("keyward explain https://api.githib.com/user --agent claude");
    person.types("keyward explain api.github.com/user --agent claude | grep -v address");
    reads!(person, "host_unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn binding_a_second_account_says_which_is_the_default_and_how_to_choose() {
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
fn a_port_in_use_is_reported_with_its_setting() {
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
async fn a_second_serve_names_the_process_that_holds_the_store() {
    let (mut person, _origin) = person();
    person.serves();
    person.types("keyward serve");
    person.types("keyward agent list");
    reads!(person, "served_twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_listed_again_after_the_gateway_was_killed() {
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
fn another_master_key_is_refused_as_the_wrong_one() {
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
fn a_lost_master_key_is_not_replaced_by_a_new_one() {
    let mut person = Newcomer::new();
    person.pastes(ADD, KEY);
    person.types("mv data/master.key kept.key");
    person.types("keyward connection list");
    person.types("mv kept.key data/master.key");
    person.types("keyward connection list --json | grep '\"name\"'");
    reads!(person, "lost_master_key");
}

#[test]
fn a_master_key_that_others_can_read_is_refused_with_a_chmod_command() {
    let mut person = Newcomer::new();
    person.pastes(ADD, KEY);
    mode(&person.data().join("master.key"), 0o644);
    person.types("keyward connection list");
    person.types("chmod 600 data/master.key");
    person.types("keyward connection list --json | grep '\"name\"'");
    reads!(person, "open_master_key");
}

#[test]
fn a_data_directory_that_others_can_enter_is_refused_with_a_chmod_command() {
    let mut person = Newcomer::new();
    person.pastes(ADD, KEY);
    mode(&person.data(), 0o755);
    person.types("keyward connection list");
    person.types("chmod 700 data");
    person.types("keyward connection list --json | grep '\"name\"'");
    reads!(person, "open_data_directory");
}

#[test]
fn a_data_directory_that_is_a_file_is_refused_with_the_data_option_as_remedy() {
    let mut person = Newcomer::new();
    person.file("data", "a file");
    person.types("keyward agent list");
    person.types("keyward agent list --data ~/elsewhere");
    reads!(person, "data_is_a_file");
}

#[test]
fn every_error_of_an_invalid_configuration_is_reported_with_its_line() {
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
fn a_secret_as_text_in_the_configuration_is_refused_with_the_forms_to_write() {
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
fn a_missing_configuration_file_is_reported_with_a_hint_to_init() {
    let mut person = Newcomer::new();
    person.types("keyward agent list --config keyward.yml");
    person.types("keyward init");
    person.types("keyward init");
    reads!(person, "no_configuration");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_stays_ready_when_a_reload_refuses_an_invalid_configuration() {
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
fn a_reload_without_a_gateway_gets_a_hint_to_start_one() {
    let mut person = Newcomer::new();
    person.types("keyward reload");
    person.types("keyward health");
    reads!(person, "nothing_runs");
}

#[test]
fn run_of_a_missing_program_or_agent_fails_with_its_exit_code_and_a_remedy() {
    let mut person = Newcomer::new();
    person.types("keyward run -- claud --version");
    person.types("keyward run claude");
    person.types("keyward run --agent nobody -- true");
    reads!(person, "no_such_program");
}

#[test]
fn a_command_that_changes_a_resource_of_the_file_gets_a_hint_to_edit_the_file() {
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
fn removing_a_bound_connection_removes_its_binding() {
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
fn provider_check_reports_a_fault_with_its_line() {
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
fn a_remote_gateway_without_https_or_a_token_is_refused_with_a_remedy() {
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
async fn run_and_serve_work_beside_the_socket_of_a_killed_gateway() {
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
fn a_key_of_another_provider_is_refused_with_the_name_of_that_provider() {
    let mut person = Newcomer::new();
    let other = "sk-ant-api03-canaryCANARYcanaryCANARYcanary";
    person.pastes(ADD, other);
    person.pastes(ADD, &format!("export GITHUB_TOKEN={KEY}"));
    person.pastes(ADD, "ghp_short");
    person.pastes(ADD, KEY);
    reads!(person, "another_key");
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_without_a_terminal_names_the_options_to_use() {
    let (mut person, origin) = person();
    person.types("keyward connect < /dev/null");
    person.types("keyward connect github < /dev/null");
    person.pastes("keyward connect github --name work --secret-stdin token --agent claude", KEY);
    person.types("keyward explain https://api.github.com/user --agent claude | head -n 3");
    reads!(person, "connected_by_options");
    assert_eq!(origin.only().head.all("authorization"), [format!("Bearer {KEY}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_and_test_of_a_paused_connection_name_resume_as_the_remedy() {
    let (mut person, _origin) = person();
    person.pastes("keyward connect github --name work --secret-stdin token --no-test", KEY);
    person.types("keyward connection pause work");
    person.types("keyward explain https://api.github.com/user");
    person.types("keyward connection test work");
    person.types("keyward connection resume work");
    person.types("keyward explain https://api.github.com/user | head -n 3");
    reads!(person, "paused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_of_a_rejected_key_says_where_to_get_a_new_one() {
    let refusal = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
    let origin = Origin::answering_as(&["api.github.com"], move |_| refusal);
    let mut person = Newcomer::before(&origin, &["api.github.com"]);
    person.pastes(ADD, KEY);
    person.types("keyward connection test work");
    reads!(person, "dead_key");
}

#[test]
fn doctor_without_a_data_directory_says_how_to_create_it() {
    let mut person = Newcomer::new();
    person.types("keyward doctor | grep -A 1 '  data '");
    reads!(person, "doctor_first");
}

#[test]
fn rotating_the_master_key_and_the_ca_prints_the_next_steps() {
    let mut person = Newcomer::new();
    person.pastes(ADD, KEY);
    person.types("keyward key rotate");
    person.types("keyward key list");
    person.types("keyward ca rotate --overlap 1h");
    person.types("keyward ca rotate");
    person.types("keyward connection list --json | grep '\"name\"'");
    reads!(person, "rotated");
}
