//! Steps of a plan for what is not stored: own providers and settings.

use super::*;

/// Nothing of these is stored: the running gateway alone knows what was in force.
#[tokio::test]
async fn changed_providers_and_settings_are_steps_until_they_are_in_force() {
    let lab = Plan::api_key().provider(IDP).start(Origin::saying("fine")).await;
    let own = yaml_of(&lab);
    assert!(own.contains("name: Idp,") && own.contains("upstream:\n"), "{own}");
    let new = own
        .replace("name: Idp,", "name: Other,")
        .replace("upstream:\n", "upstream:\n  dns: ['192.0.2.1:53']\n")
        .replace("oauth: {", "oauth: { refresh_buffer: 3m,")
        + "log: { level: debug }\n";
    let steps = [
        "change provider idp: name",
        "change section upstream: dns",
        "change section oauth: refresh_buffer",
        "change section log: level",
    ];
    assert_eq!(told(&plan(&lab, &own).await), [""; 0], "all of it is in force");
    assert_eq!(told(&plan(&lab, &new).await), steps);
    assert_eq!(reads(&lab, &new).await, [""; 0]);
    assert_eq!(told(&plan(&lab, &new).await), [""; 0], "the reload took the steps");
    assert_eq!(told(&plan(&lab, &own).await), steps, "and they lead back");

    let without: String = own
        .lines()
        .filter(|line| !line.contains("id: idp,"))
        .map(|line| line.to_owned() + "\n")
        .collect();
    assert!(told(&plan(&lab, &without).await).contains(&"remove provider idp".to_owned()));
    lab.finish().await;
}
