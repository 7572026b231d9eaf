"""All targets, by name; a module is imported when one of its targets is asked for: that costs seconds."""

from importlib import import_module

from fuzz_target import Target

WHERE: dict[str, str] = {
    name: module
    for module, names in (
        ("fuzz_identity", "token csr certificate statement"),
        ("fuzz_tensors", "safetensors safetensors_header manifest spec strict_json"),
        ("fuzz_plans", "plan_toml plan_canonical policy_toml client_toml coordinator_toml units document"),
        ("fuzz_secagg", "secagg_message secagg_state secagg_fields secagg_up secagg_down"),
        ("fuzz_sealed", "at_rest sealed_upload sealed_length"),
        ("fuzz_wire", "chunk instruction words"),
        ("fuzz_services", "service chunk_sequence"),
    )
    for name in names.split()
}


def target_of(name: str) -> Target:
    """Return a target."""
    found: dict[str, Target] = {each.name: each for each in import_module(WHERE[name]).TARGETS}
    return found[name]
