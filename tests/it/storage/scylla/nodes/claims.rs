//! Who keeps a store: one node alone, or one cluster.

use super::run;
use roost::storage::scylla::{ClaimError, Claimant};
use uuid::Uuid;

fn cluster(name: &str, id: Uuid) -> Claimant {
    Claimant::Cluster { name: name.to_owned(), id }
}

fn taken<T>(claim: Result<T, ClaimError>) -> String {
    let Err(error @ ClaimError::Taken(_)) = claim else { panic!("it is not refused") };
    error.to_string()
}

#[test]
fn the_nodes_of_a_cluster_share_a_store_that_nobody_else_gets() {
    run(|field| async move {
        let stores = [field.node().await, field.node().await, field.node().await];
        let id = Uuid::new_v4();
        let first = stores[0].claim(cluster("blue", id)).await.unwrap();
        let second = stores[1].claim(cluster("blue", id)).await.unwrap();
        // One that left lets the others have it.
        first.release().await.unwrap();
        let (lone, other) = tokio::join!(
            stores[2].claim(Claimant::Node("anna".to_owned())),
            stores[2].claim(cluster("blue", Uuid::new_v4())),
        );
        for refused in [taken(lone), taken(other)] {
            assert!(
                refused.starts_with("the store belongs to cluster blue, which is running: "),
                "{refused}"
            );
            assert_eq!(refused.lines().count(), 1);
        }
        second.release().await.unwrap();
        // Nobody renews it any more.
        let lone = stores[2].claim(Claimant::Node("anna".to_owned())).await.unwrap();
        let refused = taken(stores[0].claim(cluster("blue", id)).await);
        assert!(refused.starts_with("the store belongs to node anna, which is running: "), "{refused}");
        lone.release().await.unwrap();
        stores[0].claim(cluster("blue", id)).await.unwrap();
    });
}
