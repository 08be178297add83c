"""Who is asked and how: APIs over HTTP, models in this process, and what their failures mean."""
