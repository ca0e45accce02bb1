//! A plan with master keys that a start or a reload refuses.

use super::*;

#[tokio::test]
async fn a_master_key_that_a_reload_refuses_is_a_problem_of_the_plan() {
    let lab = Lab::simple().await;
    let new = lab.gateway.data().join("new.key");
    fs::write(&new, format!("{:064x}\n", 0xa1b2)).expect("a key");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&new, private).expect("it is ours");
    let own = yaml_of(&lab);
    let with = |keys: &str| format!("{own}master_key: {keys}\n");

    let other = with("{ file: new.key }");
    let planned = plan(&lab, &other).await;
    assert!(planned.steps.is_empty(), "{planned:?}");
    let texts: Vec<_> = planned.problems.iter().map(|problem| problem.text.clone()).collect();
    assert!(texts.len() == 1 && texts[0].contains("still wraps rows"), "{texts:?}");
    assert_eq!(reads(&lab, &other).await, texts, "the reload says the same");
    let both = plan(&lab, &with("[{ file: new.key }, { file: master.key }]")).await;
    assert!(both.problems.is_empty(), "{both:?}");
    lab.finish().await;
}

#[test]
fn a_master_key_that_the_first_start_cannot_read_is_a_problem_of_the_plan() {
    let cli = Cli::new();
    let file = cli.file("new.yaml", "master_key: { env: KW_TEST_UNSET_KEY }\n");
    let ran = cli.run(&["plan", file.to_str().expect("UTF-8")]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("`master_key`: ") && ran.err.contains("KW_TEST_UNSET_KEY"), "{ran:?}");
    assert!(!cli.data().exists(), "nothing was made");
}
