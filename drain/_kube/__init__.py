"""The Kubernetes API, as far as drain asks it: EndpointSlices of a service, listed and watched."""
