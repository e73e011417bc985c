//! A post that comes again, at another home, because nobody knows what became of the first try.

use super::{all, draft, run, try_of, user};
use crate::storage::fixture::{a_key, stored};
use roost::storage::{Appended, Jobs, KeyUse, NewPost, Posts};
use uuid::Uuid;

/// Nobody's key.
const NO_BODY: [u8; 32] = [0; 32];

#[test]
fn a_try_that_comes_again_finds_what_the_first_has_stored_at_any_home() {
    run(|field| async move {
        let (one, two) = (field.node().await, field.node().await);
        one.take_over(all()).await.unwrap();
        let anna = user(&one, "anna").await;
        let request = Uuid::new_v4();
        let first = NewPost { attempt: try_of(request, false), ..draft(anna, "once") };
        let id = first.id;
        stored(one.append(first).await.unwrap());
        one.let_go(all()).await.unwrap();
        two.take_over(all()).await.unwrap();
        let again = || NewPost { attempt: try_of(request, true), ..draft(anna, "once") };
        let Appended::Repeated(KeyUse { body, post }) = two.append(again()).await.unwrap() else {
            panic!("it was stored twice")
        };
        assert_eq!((body, post.id, post.content.as_str()), (NO_BODY, id, "once"));
        // With a key the answer has the key's body.
        let keyed = NewPost { key: a_key("key", 7), ..again() };
        let Appended::Repeated(KeyUse { body, post }) = two.append(keyed).await.unwrap() else {
            panic!("it was stored twice")
        };
        assert_eq!((body, post.id), (a_key("key", 7).unwrap().body, id));
        // More entries than the author's row remembers are in between.
        let others: Vec<_> = (0..40).map(|_| two.append(draft(anna, "other"))).collect();
        for other in others {
            stored(other.await.unwrap());
        }
        assert!(matches!(two.append(again()).await.unwrap(), Appended::Repeated(used) if used.post.id == id));
        // Another request is another post.
        let other = NewPost { attempt: try_of(Uuid::new_v4(), true), ..draft(anna, "once") };
        stored(two.append(other).await.unwrap());
    });
}

#[test]
fn two_tries_at_once_store_one_post() {
    run(|field| async move {
        let node = field.node().await;
        node.take_over(all()).await.unwrap();
        let anna = user(&node, "anna").await;
        let request = Uuid::new_v4();
        // Behind another, so that they wait together.
        let busy = node.append(draft(anna, "busy"));
        let first = node.append(NewPost { attempt: try_of(request, false), ..draft(anna, "once") });
        let again = node.append(NewPost { attempt: try_of(request, true), ..draft(anna, "once") });
        stored(busy.await.unwrap());
        let entry = stored(first.await.unwrap());
        let Appended::Repeated(used) = again.await.unwrap() else { panic!("it was stored twice") };
        assert_eq!(used.post.id, entry.id);
    });
}
