//! What every store promises: a test for each sentence in the docs of the traits, run on every engine.
//!
//! An engine gives two functions and runs the suite by [`contract!`]: one runs a test in a store in which it has
//! users of its own, the other in an empty one (`alone`), for tests that look at a whole store. What only one engine
//! promises is tested beside that (`sqlite`, `scylla`).
#![expect(clippy::unwrap_used, reason = "a test that finds nothing to unwrap has failed, and says where")]

mod accounts;
mod chats;
mod fixture;
mod graph;
mod histories;
mod history;
mod inboxes;
mod jobs;
mod logins;
mod missed;
mod model;
mod observed;
mod posts;
mod rooms;
mod rows;
mod scylla;
mod sqlite;
mod step;
mod talk;
mod timelines;
mod upkeep;
mod writes;

use fixture::TestStore;

/// The whole suite, on the engine in whose stores the functions run tests.
macro_rules! contract {
    ($some:path, $alone:path) => {
        contract! { $some, $alone;
            accounts: {
                of_two_registrations_at_once_with_one_email_or_name_one_is_made
                emails_and_names_are_unique_regardless_of_case
                credentials_are_found_by_the_email_regardless_of_case
                a_user_is_found_by_its_id
                a_profile_is_as_its_viewer_sees_it
                an_old_name_is_free_at_once
                an_outside_user_is_made_at_first_use
                an_outside_user_whose_name_is_taken_gets_a_number
            } alone {}
            logins: {
                a_login_is_alive_until_it_is_ended_or_expires
                a_refresh_token_is_spent_for_the_next
                a_spent_token_used_again_revokes_its_whole_login
                of_two_uses_of_a_token_at_once_one_is_a_reuse
                what_is_unknown_expired_or_revoked_is_refused
            } alone {
                ended_logins_are_listed_until_they_would_have_expired
            }
            posts: {
                the_newest_id_is_that_of_a_deleted_post_too
                a_key_makes_one_post_and_tells_it_as_it_was_answered
                a_key_is_its_users_own_and_kept_for_a_day
                texts_and_keys_come_back_as_they_were
                a_key_used_by_fifty_at_once_makes_one_post
                posts_are_shown_in_the_order_asked_for
                a_list_of_posts_is_walked_by_places
                a_like_counts_once_and_can_be_taken_back
                a_deleted_post_cannot_be_liked_or_unliked
                entries_are_told_in_their_order_without_those_that_are_gone
            } alone {
                a_post_is_stored_with_its_entry_its_job_and_its_count
                a_post_that_is_refused_leaves_nothing_behind
                only_its_author_deletes_a_post_and_only_once
            }
            graph: {
                a_follow_is_made_once_of_somebody_who_is_there
                a_follow_beyond_the_limit_is_refused
                a_follow_of_many_at_once_stays_within_the_limit
                an_unfollow_answers_the_follow_that_ended
                lists_go_by_the_newest_follow
                followees_are_told_with_the_entry_after_which_the_follow_began
            } alone {}
            timelines: {
                it_holds_ones_own_posts_and_those_of_the_followed_newest_first
                a_follow_brings_the_newest_twenty_and_all_that_come
                an_unfollow_and_a_deletion_take_away
                what_was_deleted_while_one_did_not_follow_is_neither_shown_nor_counted
                what_is_older_than_thirty_days_is_not_shown
                walking_shows_what_was_there_throughout_exactly_once
                it_ends_after_eight_hundred_entries
                a_full_timeline_that_loses_some_is_counted_anew
                posts_are_shown_as_their_reader_sees_them
            } alone {}
            missed: {
                everything_behind_a_cursor_is_told_in_order
                a_post_deleted_since_is_told_by_its_deletion_alone
                the_cursor_of_a_deleted_post_goes_on
                what_came_before_a_follow_is_not_missed
                eight_hundred_posts_are_told_and_one_more_is_too_many
                a_cursor_of_another_store_or_of_the_future_is_foreign
                who_reads_little_in_a_busy_store_misses_nothing
            } alone {}
            jobs: {} alone {
                deliveries_wait_in_order_until_they_are_done
                every_change_is_one_event_of_its_kind
                what_changes_nothing_is_no_event
                events_are_due_oldest_first_and_put_off
                an_event_given_up_is_a_dead_letter
                a_dead_letter_is_tried_anew_or_forgotten
                dead_letters_are_listed_oldest_first
                the_backlog_counts_what_waits
            }
            chats: {
                the_same_set_is_the_same_conversation
                of_one_set_asked_for_by_many_at_once_one_conversation_is_made
                a_conversation_with_unknown_users_is_not_made
                a_support_conversation_is_its_users_own
                a_hundred_take_part_in_one
                who_takes_no_part_sees_what_is_seen_of_none
                messages_are_numbered_in_order_however_many_come_at_once
                conversations_do_not_get_in_each_others_way
                a_key_makes_one_message
                a_key_is_kept_for_a_day
                messages_come_back_as_they_were
                history_is_walked_by_pages_while_messages_arrive
                ids_grow_though_the_clock_steps_back
                a_read_mark_never_goes_back
                unread_counts_what_others_sent_behind_the_mark
                conversations_are_listed_by_activity_and_walked_by_place
            } alone {
                a_store_that_is_opened_again_has_all_of_it
            }
            inboxes: {
                everybody_who_takes_part_hears_of_each_message
                places_grow_whatever_comes_at_once
                an_inbox_is_read_on_from_any_place
                what_was_seen_stays_seen
                appends_tell_what_they_place_in_its_order
            } alone {}
            rooms: {
                a_room_is_made_once_and_read_back
                rooms_of_an_owner_are_listed_newest_first
                a_room_that_never_was_is_none_to_every_call
                a_group_is_there_whole_when_the_room_is_taken_again
                a_superseded_home_writes_nothing
                of_many_that_take_it_at_once_one_writes
                of_two_groups_by_one_hold_one_is_written
                effects_are_read_by_pages_and_go_once_they_are_sent
                whether_a_host_acknowledges_is_known_from_then_on
                old_presses_are_not_answered_again
                an_ended_room_is_as_one_that_never_was
                rooms_are_idle_by_when_somebody_was_there_last
                random_groups_agree_with_a_model
            } alone {
                a_room_has_its_presses_when_the_store_is_opened_again
            }
            histories: {} alone {
                counts_lists_and_answers_agree_whatever_comes_at_once
                names_and_logins_have_one_owner_whatever_comes_at_once
            }
            upkeep: {
                what_has_not_expired_is_not_swept
            } alone {
                a_store_that_works_says_so
                the_head_is_before_all_that_comes_and_not_before_what_is_there
                what_was_taken_before_the_end_is_committed_and_nothing_after
            }
            writes: {
                writes_take_their_place_when_they_are_called
                a_write_nobody_waits_for_is_done
                the_newest_id_counts_what_was_called_before
            } alone {
                an_entry_that_was_heard_of_can_be_asked_for
                entries_are_heard_of_in_order
            }
        }
    };
    ($some:path, $alone:path;
     $($module:ident: { $($shared:ident)* } alone { $($own:ident)* })+) => {
        $(mod $module {
            $(#[test]
            fn $shared() {
                $some(crate::storage::$module::$shared);
            })*
            $(#[test]
            fn $own() {
                $alone(crate::storage::$module::$own);
            })*
        })+
    };
}
use contract;
