//! `keyward connect-link` as an operator types it, with the mistakes of a first time.

use test_support::newcomer::Newcomer;

#[test]
fn an_operator_makes_a_link_and_reads_its_result() {
    let mut person = Newcomer::new();
    person.types("keyward connect-link --user 42 --provider github");
    person.types("keyward user add 42 --role end_user");
    person.types("keyward connect-link --provider github");
    person.types("keyward connect-link --user 42 --provider githup");
    person.types("keyward connect-link --user 42 --provider spotify");
    person.types("keyward connect-link --user 42 --return-url https://app.example.com/done");
    person.types("keyward connect-link --user 42 --connection github-of-42");
    person.types("keyward connect-link list");
    person.types("keyward connect-link --user 42 --provider github --label onboarding");
    person.types("keyward connect-link list");
    let id = person.json("keyward connect-link list --json")["items"][0]["id"].clone();
    let id = id.as_str().expect("an id").to_owned();
    person.types(&format!("keyward connect-link show {id}"));
    person.types(&format!("keyward connect-link revoke {id}"));
    person.types(&format!("keyward connect-link show {id}"));
    insta::assert_snapshot!("connect_links", person.transcript());
}
