"""Label selectors, as Kubernetes reads them; and namespaces, which manifests often leave out."""

from drain._doctor.fields import Object, mapping, mappings, text, texts


def equals(wanted: Object, labels: Object) -> bool:
    """A Service's selector. An empty one selects nothing: its endpoints are somebody else's."""
    return bool(wanted) and all(key in labels and text(labels, key) == text(wanted, key) for key in wanted)


def matches(selector: Object, labels: Object) -> bool:
    """A LabelSelector: `matchLabels` and `matchExpressions`. An empty one selects everything."""
    exact = mapping(selector, "matchLabels")
    if not all(key in labels and text(labels, key) == text(exact, key) for key in exact):
        return False
    return all(_holds(each, labels) for _, each in mappings(selector, "matchExpressions"))


def may_be(one: str, other: str) -> bool:
    """Two namespaces, of which either may not be said."""
    return not one or not other or one == other


def _holds(expression: Object, labels: Object) -> bool:
    key, values = text(expression, "key"), texts(expression, "values")
    match text(expression, "operator"):
        case "In":
            return key in labels and text(labels, key) in values
        case "NotIn":
            return key not in labels or text(labels, key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return False
