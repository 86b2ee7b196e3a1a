"""Error reports and traces, for operators who have a service that collects them."""
