//! The work of reading a configuration grows with its length, not faster.

use std::fmt::Write;

use super::read;
use crate::config::Config;
use keyward_base::shared_map;

/// A file with so many agents, connections, apps and rules, each with a name of its own.
fn file(count: usize) -> String {
    let mut sections = ["apps:", "connections:", "agents:", "rules:"].map(|key| format!("{key}\n"));
    for index in 0..count {
        let [apps, connections, agents, rules] = &mut sections;
        let app = format!("name: app-{index}, provider: google, client_id: abc");
        let connection = format!("name: c-{index}, provider: google, app: app-{index}");
        let agent = format!("name: a-{index}, use: [c-{index}], defaults: [c-{index}]");
        let rule = format!("name: r-{index}, agents: [a-{index}], hosts: [a.test], action: deny");
        for (section, item) in
            [(apps, app), (connections, connection), (agents, agent), (rules, rule)]
        {
            writeln!(section, "  - {{ {item} }}").unwrap();
        }
    }
    sections.concat()
}

/// The configuration, and how often the reading looked at a declared resource.
fn looks(count: usize) -> (Config, u64) {
    let text = file(count);
    shared_map::count(|| read(&text, &[]))
}

#[test]
fn twice_as_many_resources_are_looked_at_twice_as_often() {
    let ((small, few), (large, many)) = (looks(100), looks(200));
    for (config, count) in [(small, 100), (large, 200)] {
        let counts =
            [config.apps.len(), config.connections.len(), config.agents.len(), config.rules.len()];
        assert_eq!(counts, [count; 4]);
    }
    assert!(few > 0 && many <= 2 * few, "{few} looks, then {many}");
}
