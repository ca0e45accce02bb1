//! A failover of the database that loses the last writes.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_token_that_the_database_lost_is_stored_again_by_the_replica_that_has_it() {
    for lost in [1, 3] {
        let token = |life| Answer { after: 5, what: What::Token(Some(life)) };
        let mut fleet = Fleet::new(vec![token(3), token(3), token(3_600)], Some(3)).await;
        let key = record::key(&fleet.connection.org, &fleet.connection.id);
        let database = fleet.replicas[0].link.another();
        let mut rows = Vec::new();
        for _ in 0..3 {
            rows.push(database.get(Table::Grants, &key).await.unwrap().expect("a row"));
            passes(5_000).await;
            fleet.want(0, 1);
            passes(1_000).await;
        }
        let stored = fleet.replicas[0].vault.grants().stored(&fleet.connection).await.unwrap();
        let before = rows.remove(rows.len() - lost);
        database.delete(Table::Grants, &key, Expect::Any).await.unwrap();
        database.load(vec![(Table::Grants, before)]).await.unwrap();
        fleet.fleet.forget_versions();
        passes(5_000).await;
        let now = fleet.replicas[1].vault.grants().stored(&fleet.connection).await.unwrap();
        assert_eq!((now.version, now.bytes), (stored.version, stored.bytes), "{lost} lost");
        fleet.want(1, 1);
        fleet.play(&[]).await;
        assert_eq!(*fleet.fleet.world.wrong.lock(), Vec::<String>::new());
        assert_eq!(fleet.fleet.world.asked.load(SeqCst), 3);
    }
}
