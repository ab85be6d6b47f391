"""How notices leave the house: webhooks, e-mail, chat services."""
