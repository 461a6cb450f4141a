"""Where everything lies and when: the memory plan of both RAMs."""
