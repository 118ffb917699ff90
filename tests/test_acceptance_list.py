"""What has to be shown before anyone may trust an answer: a list of sentences, each with the tests that show it.

Still open: certificates of other norms and of other noise, against an enumeration of toy cases. Only Gaussian noise and l2
are offered.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

SHOWN = {
    # Bounds.
    "Clopper-Pearson's bound keeps its level, by exact tails up to ten million draws, and is monotone": [
        "test_bounds.test_clopper_pearson_keeps_its_level_and_wastes_nothing",
        "test_bounds.test_coverage_by_enumeration",
        "test_bounds.test_clopper_pearson_is_monotone",
    ],
    "Normal quantiles and probabilities are never on the unsafe side, at extremes neither": [
        "test_bounds.test_quantiles_lie_on_their_side_at_the_extremes",
        "test_bounds.test_quantiles_lie_on_their_side",
        "test_bounds.test_probabilities_lie_on_their_side",
    ],
    "The evidence is a martingale that counts of workers add up to, and its bound is proven by one evaluation at itself": [
        "test_anytime.test_the_evidence_equals_quadrature",
        "test_anytime.test_one_step_is_a_martingale",
        "test_anytime.test_bounds_are_proven_at_themselves_and_enclose_the_share",
        "test_anytime.test_hits_up_to_their_expectation_never_reject",
        "test_anytime.test_it_claims_no_more_than_clopper_pearson_with_the_draws_known",
        "test_anytime.test_evidence_is_free_of_order_and_workers_add_counts",
    ],
    "Whatever makes the draws stop, a bound is false in at most alpha; Clopper-Pearson at every look is not": [
        "test_anytime.test_never_false_more_often_than_alpha_by_exact_dynamic_programming",
        "test_any_class.test_one_class_at_every_look_by_exact_dynamic_programming",
        "test_any_class.test_the_mutant_with_clopper_pearson_at_every_look_fails_exactly",
        "test_any_class.test_the_better_of_two_classes_at_every_look_by_exact_dynamic_programming",
        "test_any_class.test_any_of_many_equal_classes_at_every_look",
    ],
    "The class may be chosen by the draws that prove it, if labels exclude each other; at plain alpha it may not": [
        "test_anytime.test_the_label_may_be_chosen_from_the_same_draws",
        "test_procedures.test_votes_for_labels_that_do_not_exclude_each_other_are_refused",
        "test_soft.test_votes_for_labels_that_do_not_exclude_each_other_are_refused",
        "test_any_class.test_the_better_of_two_classes_at_every_look_by_exact_dynamic_programming",
        "test_any_class.test_any_of_many_equal_classes_at_every_look",
        "test_any_class.test_the_top_class_at_a_fixed_number_of_draws",
    ],
    # Procedures and certificates.
    "Slices in any order end alike, lost draws only weaken, stop rules agree, and one half certifies nothing": [
        "test_precision.test_a_certified_radius_is_enclosed_and_lost_draws_only_widen",
        "test_procedures.test_lost_draws_only_weaken",
        "test_procedures.test_all_stop_rules_together_do_not_contradict_each_other",
        "test_procedures.test_no_certificate_at_one_half",
        "test_two_sided.test_no_certificate_where_the_leader_does_not_lead_for_certain",
        "test_schedules.test_any_schedule_keeps_the_invariants",
    ],
    "Mean draws are those that theory foresees": [
        "test_procedures.test_mean_draws_are_those_worked_out_beforehand",
        "test_draws_needed.test_our_draws_are_those_worked_out_beforehand",
    ],
    "The two-sided certificate covers, and with two classes is the one-sided one": [
        "test_two_sided.test_two_classes_reduce_to_the_one_sided_certificate",
        "test_two_sided.test_coverage_with_ties_at_the_top",
    ],
    "On a half-space the radius is within a hundredth of the true one, not above it, and nothing flips inside": [
        "test_lattice.test_a_half_space_end_to_end",
    ],
    "Every published radius is that of a whole number of hits": [
        "test_published_radii.test_every_logged_radius_is_that_of_a_whole_number_of_hits",
    ],
    # The grid, the noise and its keys.
    "Only what the network sees saturates; units scale; the charge for the finite noise table is taken off": [
        "test_procedures.test_the_charge_is_taken_off",
        "test_runtimes.test_the_lattice_is_never_clipped",
        "test_resolve.test_off_grid_values_are_refused_or_moved_and_said_so",
        "test_lattice.test_the_worst_of_all_classifiers_meets_the_bound",
        "test_lattice.test_units",
    ],
    "On the grid the worst classifier of all meets the bound, with unequal steps too; clipped noise breaks it": [
        "test_lattice.test_the_worst_of_all_classifiers_meets_the_bound",
        "test_lattice.test_the_mutant_that_clips_the_noise_fails",
        "test_lattice.test_unequal_steps",
    ],
    "A value off the grid is moved, and the certificate is about where it lies then": [
        "test_resolve.test_a_step_far_below_the_grid_s_may_move_the_snapped_point_by_the_whole_cell",
    ],
    "The noise follows its exact law, draw by draw, however it is sliced and whichever kernel makes it": [
        "test_noise.test_every_boundary_is_the_exact_floor",
        "test_noise.test_the_first_words_are_philox",
        "test_noise.test_a_draw_does_not_depend_on_its_slice",
        "test_noise.test_the_law_by_chi_square",
        "test_noise_kernel.test_every_integer_is_that_of_the_reference",
    ],
    "One input has one key, which another secret, pixel, bundle or menu changes, and no option, retry or neighbour does": [
        "test_noise.test_keys_depend_on_input_bundle_and_menu_alone",
        "test_homes.test_asked_twice_answered_alike",
        "test_engine.test_rows_are_answered_in_order_and_equal_rows_alike",
        "test_resolve.test_no_option_moves_the_key",
        "test_resolve.test_another_secret_pixel_or_bundle_gives_another_key",
    ],
    "One tensor has one key, whatever format and replica carries it": [
        "test_wire_parity.test_pictures_and_rows_give_one_document",
        "test_homes.test_asked_twice_answered_alike",
        "test_resolve.test_one_tensor_has_one_key_whatever_carries_it",
    ],
    # One alpha for all that an answer claims.
    "Any claim of an answer, at any stop, is false in at most alpha; each claim at an alpha of its own is not": [
        "test_schedules.test_a_hundred_thousand_schedules_keep_the_invariants_and_alpha",
        "test_one_event.test_any_claim_at_any_look_is_false_in_at_most_alpha",
        "test_one_event.test_the_mutant_with_each_claim_at_its_own_alpha_fails",
        "test_oracle.test_all_claims_of_an_answer_share_one_alpha",
    ],
    "Asking again buys nothing: bounds depend on the draws alone, and no request picks radius or threshold of a score": [
        "test_dealer.test_two_engines_give_the_answer_of_one_and_each_makes_its_half",
        "test_engine.test_a_cut_certificate_is_a_function_of_its_draws",
        "test_resolve.test_no_option_moves_the_key",
        "test_one_event.test_the_mutant_with_the_radius_from_the_request_fails",
        "test_one_event.test_the_mutant_with_the_threshold_from_the_request_fails",
    ],
    "Void shortcuts are caught: ranks of a fixed number at every look, thresholds at plain alpha, dropped draws": [
        "test_quantiles.test_the_mutant_with_the_ranks_of_a_fixed_number_of_draws_fails",
        "test_soft_thresholds.test_the_mutant_with_thresholds_at_plain_alpha_m_fails",
        "test_one_event.test_the_mutant_that_drops_lost_draws_fails",
    ],
    "Any order, split, retry or late arrival gives the same counts, and a gap only widens the bounds": [
        "test_engine.test_a_batch_that_fails_once_is_drawn_again_under_the_same_indices",
        "test_engine.test_a_batch_that_fails_again_counts_against_every_claim",
        "test_schedules.test_any_schedule_keeps_the_invariants",
    ],
    # Out of distribution.
    "Repeated calibration rows keep the rate of false alarms, and with too few draws there is no p-value": [
        "test_conformal.test_repeated_rows_need_noise_keyed_by_row",
        "test_ood.test_without_all_of_the_first_draws_there_is_no_verdict",
        "test_calibrate.test_draws_are_those_of_the_served_law_keyed_by_row",
    ],
    "The robust alarm keeps its rate under attack, and the drift alarm under repeated requests": [
        "test_drift.test_false_alarms_under_the_law_of_the_calibration_set",
        "test_drift.test_counting_each_input_once_mends_repeated_requests",
        "test_robust_alarm.test_false_alarms_in_the_linear_worst_case",
        "test_robust_alarm.test_false_alarms_in_the_linear_worst_case_long",
    ],
    # The mixture.
    "The mixture's label is the certified one where its radius is positive, and no broken base answer changes that": [
        "test_mixture.test_the_label_is_the_certificate_s_where_the_radius_is_positive",
        "test_mixture.test_a_base_answer_that_is_no_probability_is_an_error",
        "test_mixture.test_the_served_label_is_the_certified_one_wherever_the_radius_is_positive",
        "test_mixture.test_an_accurate_network_that_saturates_to_one_hot_ties_and_does_not_break_the_certificate",
    ],
    "Whatever the accurate network says, the mixture keeps its label inside its radius, and may lose it just outside": [
        "test_margins.test_a_half_space_and_a_one_hot_adversary_flip_at_the_one_sided_radius",
        "test_margins.test_two_half_spaces_and_a_one_hot_adversary_flip_at_the_two_sided_radius",
        "test_margins.test_no_flip_within_the_radius_on_the_grid_by_enumeration",
        "test_margins.test_no_form_is_larger_than_the_two_sided_one",
    ],
    "The mixture's radius grows with the least weight, from nothing at one half to the certificate's at one": [
        "test_mixture.test_weight_one_is_the_ordinary_certificate_and_one_half_never_certifies",
        "test_mixture.test_radius_grows_with_the_weight",
        "test_margins.test_half_a_weight_proves_nothing",
        "test_mixture.test_a_weight_that_varies_certifies_exactly_as_its_minimum",
        "test_mixture.test_the_stable_log_form_is_the_direct_form_at_extreme_logits",
    ],
    # The learned prior, receipts and words.
    "A learned prior rejects an initial segment, and can depend on neither the request nor the draws": [
        "test_prior.test_the_rejected_values_are_an_initial_segment",
        "test_prior.test_the_interface_knows_no_request_and_no_draw",
    ],
    "A receipt that was altered fails, proves its radii without the model, and has the same bytes on every platform": [
        "test_receipt.test_the_bytes_are_those_of_their_version",
        "test_receipt.test_what_was_claimed_is_claimed_again_from_the_counts_alone",
        "test_receipt.test_a_count_that_was_altered_proves_something_else",
    ],
    "What every claim says, and does not say, is in the specification of the wires": [
        "test_wording.test_every_claim_is_in_the_specification",
    ],
    # The service, its clients and its page.
    "Unmodified clients of Triton and KServe work: health, metadata, every datatype, both forms, errors, streams": [
        "test_official_clients.test_an_unmodified_client_works",
    ],
    "One request down both wires, and in both homes, gives byte-equal tensors or the same reason": [
        "test_homes.test_both_wires_and_both_homes_give_the_same_bytes_or_the_same_reason",
        "test_wire_parity.test_tensors_say_what_the_document_says",
        "test_wire_parity.test_both_wires_refuse_alike",
    ],
    "Every error has one form, on routes that are not there too, and nothing but large answers is compressed": [
        "test_http_server.test_failures_keep_their_form",
        "test_http_server.test_every_other_route_answers_an_error",
        "test_http_server.test_only_a_large_infer_answer_is_compressed",
    ],
    "Whatever is sent, nothing hangs, fails as ours or takes more memory than it may: bombs, many chunks, short bodies": [
        "test_openapi.test_whatever_is_made_from_the_document_is_answered_as_it_says",
        "test_http_server.test_whatever_comes_is_answered_in_form",
        "test_http_body.test_no_more_of_a_bomb_is_held_than_the_limit",
        "test_http_sockets.test_a_body_in_very_many_chunks_is_read",
        "test_http_sockets.test_a_body_that_stops_coming_is_given_up",
        "test_corpora.test_so_are_small_changes_of_it",
        "test_oip_proto.test_no_bytes_raise_anything_else",
    ],
    "The open protocol's numbers, KServe's own message and floats in words are read as their clients send them": [
        "test_protos.test_numbers_are_those_of_the_protocol",
        "test_protos.test_kserves_load_request_names_the_model_where_we_look_for_it",
        "test_oip_proto.test_a_float_may_come_as_text",
    ],
    "Whoever leaves, on either wire and in either home, takes its draws away, and the counts go back to nothing": [
        "test_homes.test_a_stream_ends_with_the_unary_answer_and_whoever_leaves_it_takes_its_draws_away",
        "test_split.test_whoever_leaves_the_stream_takes_its_draws_off_the_engines",
        "test_live.test_who_cancels_a_call_takes_the_draws_from_the_engine",
        "test_http_sockets.test_a_client_that_hangs_up_cancels_its_work",
    ],
    "Overload is refused with a hint, whoever was accepted is answered, and health goes on": [
        "test_engine.test_overload_is_refused_with_a_hint",
        "test_http_server.test_requests_in_progress_are_bounded_and_health_goes_on",
        "test_grpc_budget.test_calls_are_bounded_in_number_and_health_goes_on",
    ],
    "An empty or broken repository is never ready, and a stop loses nothing that was accepted": [
        "test_bundle.test_an_empty_repository_and_a_misplaced_bundle_are_refused",
        "test_cli.test_a_broken_bundle_stops_the_start_by_name",
        "test_draining.test_both_wires_answer_what_they_accepted_and_refuse_the_rest",
        "test_stops.test_a_signal_stops_it_after_what_it_has_accepted",
    ],
    "The chart renders by both versions of Helm, fits the schemas, refuses bad values and keeps Ray's ports closed": [
        "test_rendering.test_every_document_fits_the_schema_of_its_kind",
        "test_rendering.test_both_versions_of_helm_lint_it_without_a_warning",
        "test_rendering.test_the_ports_of_ray_are_open_to_the_cluster_and_the_operator_only",
        "test_values.test_a_bad_value_is_refused_and_named",
    ],
    "Metrics are parsed, no client chooses a label, and traces join across wires and processes": [
        "test_metrics_text.test_it_is_read_by_the_parser_of_prometheus_and_no_label_is_chosen_by_a_client",
        "test_trace.test_every_answer_carries_the_request_s_id_and_trace",
        "test_trace.test_every_line_of_the_log_names_the_request_and_its_trace",
    ],
    "Without a credential every route and method is refused, but health": [
        "test_door.test_every_route_and_method_lets_in_whom_it_should_and_nobody_else",
        "test_callers.test_every_route_asks_who_it_is_for_but_health",
    ],
    "The contracts keep the rules of buf, a change that breaks clients is found, and the stubs are as generated": [
        "test_protos.test_our_sources_keep_the_rules_of_buf",
        "test_protos.test_buf_finds_a_change_that_would_break_clients",
        "test_protos.test_stubs_are_as_generated",
    ],
    "Every event of a stream is what its counts prove, and the last is the unary answer": [
        "test_live.test_every_certificate_is_one_that_the_counts_of_its_draws_prove",
        "test_live.test_the_final_events_are_the_unary_answer",
        "test_live.test_the_typed_stream_s_final_messages_are_the_unary_answer",
    ],
    "The page says of an answer what is claimed and no more, and judges receipts as the command does, without a complaint": [
        "test_browser.test_drop_tighten_perturb_verify_paste_and_type_without_one_complaint_of_the_browser",
        "test_browser.test_it_fits_a_phone_and_names_whatever_can_be_used",
        "test_verifier.test_both_verifiers_say_the_same_of_some_hundred_receipts_of_every_kind_honest_ones_and_altered_ones",
        "test_verifier.test_both_verifiers_say_the_same_of_many_receipts",
        "test_words.test_no_number_is_rounded_to_where_it_would_claim_more",
    ],
}


def _tests():
    """Each test as "file.function", and whether it is left to the long simulations."""
    found = {}
    for path in Path(__file__).parent.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found[f"{path.stem}.{node.name}"] = any(
                    "mark.slow" in ast.unparse(each) for each in node.decorator_list
                )
    return found


@pytest.fixture(scope="module")
def slow():
    return _tests()


@pytest.mark.parametrize("sentence", SHOWN)
def test_every_sentence_is_shown_by_tests_that_exist_and_one_that_always_runs(sentence, slow):
    assert [name for name in SHOWN[sentence] if name not in slow] == []
    assert not all(slow[name] for name in SHOWN[sentence])


def test_documents_that_the_tests_name_are_in_the_repository():
    """A number in a document that nobody can open explains nothing."""
    here = {path.name for path in ROOT.rglob("*.md") if not {".venv", "mutants"} & set(path.parts)}
    texts = {path.name: path.read_text() for path in Path(__file__).parent.rglob("*.py")}
    named = {(test, name) for test, text in texts.items() for name in re.findall(r"\b[\w-]+\.md\b", text)}
    assert {(test, name) for test, name in named if name not in here} == set()
